use super::*;
use crate::attr::{Device, StatFs, Timestamp};

fn attr(mode: u32) -> Attr {
    Attr {
        mode,
        ino: 7,
        dev: Device { major: 8, minor: 1 },
        size: 42,
        mtime: Timestamp { sec: -3, nsec: 5 },
        btime: Some(Timestamp { sec: 1, nsec: 2 }),
        ..Attr::default()
    }
}

fn round_trip<T: Wire + PartialEq + std::fmt::Debug>(value: &T) {
    let mut out = Writer::new();
    value.encode(&mut out);
    let mut from = Reader::new(out.as_bytes());
    assert_eq!(T::decode(&mut from).as_ref(), Ok(value));
    assert_eq!(from.finish(), Ok(()));
    for len in 0..out.len() {
        assert!(T::decode(&mut Reader::new(&out.as_bytes()[..len])).is_err(), "cut to {len}");
    }
    let mut bytes = out.as_bytes().to_vec();
    for at in 0..bytes.len() {
        let old = bytes[at];
        for new in [0, 1, 2, 0x7f, 0xff] {
            bytes[at] = new;
            let _ = T::decode(&mut Reader::new(&bytes));
        }
        bytes[at] = old;
    }
}

#[test]
fn replies_come_back_as_written() {
    let dir = attr(0o040_755);
    round_trip(&dir);
    round_trip(&StatFs { magic: 1, name_max: 255, ..StatFs::default() });
    round_trip(&HelloReply {
        version: 1,
        max_channels: 16,
        trees: vec![TreeInfo { id: TreeId(9), read_only: true, attr: dir }],
    });
    round_trip(&WalkBody {
        base: dir,
        attrs: vec![dir, attr(0o100_644)],
        end: WalkEnd::Complete,
        file: Some(None),
    });
    round_trip(&WalkBody {
        base: dir,
        attrs: vec![attr(0o120_777)],
        end: WalkEnd::Symlink(b"../x".to_vec()),
        file: None,
    });
    round_trip(&DirItem::Entry(DirEntry {
        name: vec![0xff],
        ino: 3,
        kind: FileType::Fifo,
        attr: Some(attr(0o010_600)),
    }));
    round_trip(&DirItem::Failed(Errno::EIO));
    round_trip(&DirItem::End);
}

#[test]
fn a_huge_count_is_refused_without_reserving_for_it() {
    let mut out = Writer::new();
    attr(0o040_755).encode(&mut out);
    out.u32(u32::MAX);
    assert!(WalkBody::decode(&mut Reader::new(out.as_bytes())).is_err());
}

#[test]
fn error_numbers_out_of_range_are_malformed() {
    for raw in [4096, i32::MAX.unsigned_abs(), u32::MAX] {
        assert!(decode_status(&mut Reader::new(&raw.to_le_bytes())).is_err());
    }
    assert_eq!(decode_status(&mut Reader::new(&[0; 4])), Ok(None));
}

#[test]
fn entries_named_like_a_way_out_are_malformed() {
    for name in [&b".."[..], b".", b"", b"a/b", b"a\0"] {
        let mut out = Writer::new();
        let (ino, kind) = (1, FileType::Regular);
        DirEntry { name: name.to_vec(), ino, kind, attr: None }.encode(&mut out);
        assert!(DirEntry::decode(&mut Reader::new(out.as_bytes())).is_err());
    }
}

#[test]
fn a_walk_whose_parts_do_not_fit_is_malformed() {
    let (dir, file, link) = (attr(0o040_755), attr(0o100_644), attr(0o120_777));
    let body = |attrs: Vec<Attr>, end| WalkBody { base: dir, attrs, end, file: None };
    assert!(body(vec![dir, file], WalkEnd::Complete).check(2).is_ok());
    assert!(body(vec![dir], WalkEnd::Missing).check(2).is_ok());
    assert!(body(vec![], WalkEnd::Complete).check(0).is_ok());
    assert!(body(vec![dir, link], WalkEnd::Symlink(vec![1])).check(2).is_ok());
    for bad in [
        body(vec![dir, dir, dir], WalkEnd::Complete),
        body(vec![dir], WalkEnd::Complete),
        body(vec![file, file], WalkEnd::Complete),
        body(vec![dir, dir], WalkEnd::Missing),
        body(vec![file], WalkEnd::Missing),
        body(vec![dir], WalkEnd::NotDirectory),
        body(vec![dir, file], WalkEnd::Symlink(vec![1])),
        body(vec![dir, link], WalkEnd::Complete),
        WalkBody { file: Some(None), ..body(vec![dir, dir], WalkEnd::Complete) },
        WalkBody { base: file, ..body(vec![dir, dir], WalkEnd::Complete) },
    ] {
        assert!(bad.check(2).is_err(), "{bad:?}");
    }
}
