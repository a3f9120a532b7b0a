use super::*;
use crate::attr::{Attr, SetTime, Timestamp};

fn samples() -> Vec<Request<'static>> {
    let path = TreePath::new(b"usr/lib/x").unwrap();
    let to = TreePath::new(b"other").unwrap();
    let place = Place::new(TreeId(3), path);
    let owner = Some(Owner { uid: 1000, gid: 100 });
    let node = NewNode { place, permissions: 0o4755, owner };
    let changes = SetAttr {
        mode: Some(0o644),
        uid: None,
        gid: Some(5),
        size: Some(1 << 40),
        atime: Some(SetTime::Now),
        mtime: Some(SetTime::To(Timestamp { sec: -1, nsec: 999_999_999 })),
    };
    let how = OpenHow { access: Access::ReadWrite, flags: OpenFlags::TRUNCATE };
    vec![
        Request::Hello { version: 1 },
        Request::OpenChannel { processor: None },
        Request::OpenChannel { processor: Some(3) },
        Request::Walk(Walk { base: place, names: to, open: Some(how) }),
        Request::GetAttr(Place::new(TreeId(0), TreePath::ROOT)),
        Request::Open(place, OpenHow::READ),
        Request::Create(node, how),
        Request::Mkdir(node),
        Request::Mknod(node, NodeKind::Fifo),
        Request::Symlink { place, target: b"../up", owner: None },
        Request::Link { from: place, to },
        Request::Unlink(place),
        Request::Rmdir(place),
        Request::Rename { from: place, to, flags: RenameFlags::EXCHANGE },
        Request::SetAttr { place, expect: Some(Attr::default().id()), changes },
        Request::StatFs(place),
        Request::ReadDir { place, attrs: true },
        Request::OpenMany { base: place, files: TreePaths::new(b"one\0two/three").unwrap() },
        Request::ReadDirs { base: place, names: path, attrs: true, budget: 7 },
        Request::ReadLink(place),
        Request::GetXattr { place, name: b"user.a" },
        Request::SetXattr { place, name: b"user.a", value: b"\0v", flags: 1 },
        Request::ListXattr(place),
        Request::RemoveXattr { place, name: b"user.a" },
        Request::Fsync { place, data_only: false },
    ]
}

#[test]
fn requests_come_back_as_written() {
    for request in samples() {
        let mut out = Writer::new();
        request.encode(&mut out);
        assert_eq!(Request::decode(out.as_bytes()), Ok(request));
    }
}

#[test]
fn a_request_cut_short_or_continued_is_refused() {
    for request in samples() {
        let mut out = Writer::new();
        request.encode(&mut out);
        for len in 0..out.len() {
            assert!(Request::decode(&out.as_bytes()[..len]).is_err(), "{request:?} cut to {len}");
        }
        out.u8(0);
        assert!(Request::decode(out.as_bytes()).is_err(), "{request:?} with a byte more");
    }
}

#[test]
fn any_changed_byte_is_decoded_or_refused_without_panic() {
    for request in samples() {
        let mut out = Writer::new();
        request.encode(&mut out);
        let mut bytes = out.as_bytes().to_vec();
        for at in 0..bytes.len() {
            let old = bytes[at];
            for new in [0, 1, 0x2f, 0x7f, 0x80, 0xff] {
                bytes[at] = new;
                let _ = Request::decode(&bytes);
            }
            bytes[at] = old;
        }
    }
}

#[test]
fn an_unknown_operation_is_enosys() {
    assert_eq!(Request::decode(&[0xff, 0xff]), Err(BadRequest(Errno::ENOSYS)));
}

#[test]
fn paths_that_lead_out_are_refused() {
    for bad in [&b".."[..], b"/etc", b"a/../b", b"a//b", b"a\0"] {
        let mut out = Writer::new();
        out.u16(op::GET_ATTR);
        out.u32(0);
        out.bytes(bad);
        assert_eq!(Request::decode(out.as_bytes()), Err(BadRequest(Errno::EINVAL)));
    }
}
