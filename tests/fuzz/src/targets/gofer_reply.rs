//! What the sentry's client makes of a gofer that says whatever it likes: decoded values are encoded as the same bytes
//! again; a call ends with a value that fits its request, or an error; what was opened is what was asked for; and no
//! descriptor stays open that came with a reply nobody can use.
//!
//! An input is: the call, the descriptors that come along, how the reply is cut into packets, and the reply.

use std::{
    fs::File,
    io::Read,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::OnceLock,
};

use arbitrary::Unstructured;
use gofer_wire::{
    Attr, FileType, GoferClient, MAX_FRAGMENT, OpenHow, Place, RenameFlags, SetAttr, StatFs,
    TreeId, TreeInfo, TreePath, TreePaths, VERSION, WalkEnd,
    codec::{Reader, Wire, Writer},
    reply::{
        DirEntry, DirItem, HelloReply, WalkBody, decode_below, decode_directory, encode_status,
    },
    request::NodeKind,
    transport::{send, send_fragment, socket_pair},
};
use linux_abi::Errno;
use rustix::fs::{MemfdFlags, memfd_create};

use crate::Target;

/// See the module.
pub const TARGET: Target = Target {
    name: "gofer_reply",
    run,
    seeds,
    max_len: 8192,
    // An entry of a directory takes 16 times as much room as on the wire, and lists grow by doubling. The
    // inbox has room for a packet more than was received.
    memory: Some(|len| 64 * len + 8 * MAX_FRAGMENT),
};

fn run(data: &[u8]) {
    decode(data);
    let mut input = Unstructured::new(data);
    let (Ok(call), Ok(gifts), Ok(cut)) =
        (input.arbitrary::<u8>(), input.arbitrary::<[u8; 3]>(), input.arbitrary::<u16>())
    else {
        return;
    };
    ask(call, gifts, cut.into(), input.take_rest());
}

/// Every decoder.
fn decode(data: &[u8]) {
    same_again::<HelloReply>(data);
    same_again::<Attr>(data);
    same_again::<StatFs>(data);
    same_again::<SetAttr>(data);
    same_again::<Errno>(data);
    same_again::<WalkEnd>(data);
    same_again::<DirEntry>(data);
    same_again::<DirItem>(data);
    if let Some(body) = same_again::<WalkBody>(data) {
        for asked in [0, 1, body.attrs.len(), body.attrs.len() + 1] {
            let _ = body.check(asked);
        }
    }
    if let Ok(Ok(directory)) = decode_directory(&mut Reader::new(data)) {
        assert!(
            directory.entries.iter().all(|entry| gofer_wire::path::check_name(entry.name).is_ok())
        );
    }
    let _ = decode_below(&mut Reader::new(data));
}

/// What can be read from the front of `data` has one form only.
fn same_again<T: Wire + PartialEq + std::fmt::Debug>(data: &[u8]) -> Option<T> {
    let mut from = Reader::new(data);
    let value = T::decode(&mut from).ok()?;
    let used = data.len() - from.remaining();
    let mut out = Writer::new();
    value.encode(&mut out);
    assert_eq!(out.as_bytes(), data.get(..used).unwrap_or_default(), "{value:?}");
    Some(value)
}

/// What may come with a reply. All are the same each time, so that a reply can describe them.
struct Gifts {
    file: OwnedFd,
    directory: OwnedFd,
    /// Ends when nobody holds the other end any more.
    pipe: (OwnedFd, OwnedFd),
    socket: (OwnedFd, OwnedFd),
}

fn memfd() -> OwnedFd {
    memfd_create("fuzz", MemfdFlags::CLOEXEC).expect("a memory file")
}

/// Attributes that a descriptor really has.
fn attr_of(file: impl AsFd) -> Attr {
    let stat = rustix::fs::fstat(file).expect("attributes");
    let dev = gofer_wire::Device {
        major: rustix::fs::major(stat.st_dev),
        minor: rustix::fs::minor(stat.st_dev),
    };
    Attr { mode: stat.st_mode, ino: stat.st_ino, dev, nlink: 1, ..Attr::default() }
}

fn directory_attr() -> Attr {
    Attr { mode: 0o040_755, ino: 2, nlink: 2, ..Attr::default() }
}

/// A client whose first call will read what `replies` sends.
fn connected(replies: impl FnOnce(BorrowedFd<'_>)) -> GoferClient {
    let (ours, theirs) = socket_pair().expect("sockets");
    let (channel, channel_theirs) = socket_pair().expect("sockets");
    let mut out = Writer::new();
    encode_status(&mut out, None);
    let info = TreeInfo { id: TreeId(1), read_only: false, attr: directory_attr() };
    HelloReply { version: VERSION, max_channels: 1, trees: vec![info] }.encode(&mut out);
    send(&ours, out.as_bytes(), &[]).expect("room in the socket");
    out.clear();
    encode_status(&mut out, None);
    send(&ours, out.as_bytes(), &[channel_theirs.as_fd()]).expect("room in the socket");
    replies(channel.as_fd());
    let client = GoferClient::connect(theirs).expect("a good greeting");
    // The client's own requests fill no socket; when it waits for more, it sees the end.
    drop((ours, channel_theirs));
    rustix::net::shutdown(&channel, rustix::net::Shutdown::Write).expect("a socket");
    KEPT.with(|kept| kept.replace(Some(channel)));
    client
}

thread_local! {
    /// The gofer's end, which has to be there for the client to ask.
    static KEPT: std::cell::RefCell<Option<OwnedFd>> = const { std::cell::RefCell::new(None) };
}

/// The regular file that comes along, the same for good: its attributes are in the seeds.
fn shared_file() -> &'static OwnedFd {
    static FILE: OnceLock<OwnedFd> = OnceLock::new();
    FILE.get_or_init(memfd)
}

fn ask(call: u8, kinds: [u8; 3], cut: usize, reply: &[u8]) {
    let gifts = Gifts {
        file: shared_file().try_clone().expect("a descriptor"),
        directory: File::open("/").expect("the root").into(),
        pipe: rustix::pipe::pipe().expect("a pipe"),
        socket: socket_pair().expect("sockets"),
    };
    let along: Vec<BorrowedFd<'_>> = kinds
        .iter()
        .filter_map(|kind| match kind % 6 {
            0 | 1 => None,
            2 => Some(gifts.file.as_fd()),
            3 => Some(gifts.directory.as_fd()),
            4 => Some(gifts.pipe.1.as_fd()),
            _ => Some(gifts.socket.0.as_fd()),
        })
        .collect();
    // Attributes of the file that comes along, where the reply has a place for them.
    let reply = with_real_file(reply);
    let client = connected(|socket| {
        let (head, tail) = reply.split_at(cut.min(reply.len()));
        let sent = if tail.is_empty() || head.is_empty() {
            send(socket, &reply, &along)
        } else {
            send_fragment(socket, head, true, &along).and_then(|()| send(socket, tail, &[]))
        };
        // An empty packet, and a reply larger than the socket's room, are not sent.
        let _ = sent;
    });
    let opened = make_call(&client, call);
    for file in &opened {
        let kind = FileType::from_mode(rustix::fs::fstat(file).expect("attributes").st_mode);
        assert!(matches!(kind, FileType::Regular | FileType::Socket), "{kind:?} was taken");
    }
    drop(opened);
    drop(client);
    KEPT.with(|kept| kept.replace(None));
    drop(along);
    let Gifts { pipe: (read, write), .. } = gifts;
    drop(write);
    // Blocks for ever if somebody kept the other end.
    assert_eq!(File::from(read).read(&mut [0]).expect("a pipe"), 0);
}

/// In the place of the marker, the attributes that the file has here.
fn with_real_file(reply: &[u8]) -> Vec<u8> {
    const MARKER: &[u8] = b"@file";
    let mut out = Writer::new();
    attr_of(shared_file()).encode(&mut out);
    let mut whole = Vec::with_capacity(reply.len());
    let mut rest = reply;
    while let Some(at) = rest.windows(MARKER.len()).position(|window| window == MARKER) {
        let (head, tail) = rest.split_at(at);
        whole.extend_from_slice(head);
        whole.extend_from_slice(out.as_bytes());
        rest = tail.get(MARKER.len()..).unwrap_or_default();
    }
    whole.extend_from_slice(rest);
    whole
}

/// Makes a call; the descriptors that came of it.
fn make_call(client: &GoferClient, call: u8) -> Vec<OwnedFd> {
    let path = |path: &'static str| TreePath::new(path.as_bytes()).expect("a path");
    let place = Place::new(TreeId(1), path("dir/file"));
    let mut opened = Vec::new();
    let mut keep = |file: Result<gofer_wire::Opened, Errno>| {
        if let Ok(file) = file {
            assert_eq!(file.attr.file_type(), FileType::Regular);
            opened.push(file.file);
        }
    };
    match call % 19 {
        0 => drop(client.get_attr(place)),
        1 => {
            let names = path("a/b");
            if let Ok(walk) = client.walk(place, names, Some(OpenHow::READ)) {
                assert!(walk.attrs.len() <= 2);
                opened.extend(walk.file.and_then(Result::ok));
            }
        }
        2 => {
            if let Ok(walk) = client.walk(place, path("a"), None) {
                assert!(walk.file.is_none());
            }
        }
        3 => keep(client.open(place, OpenHow::READ)),
        4 => {
            let files = TreePaths::new(b"a\0b/d\0c").expect("paths");
            if let Ok(files) = client.open_many(place, files) {
                assert_eq!(files.len(), 3);
                files.into_iter().for_each(keep);
            }
        }
        5 => keep(client.create(place, 0o600, None, OpenHow::WRITE)),
        6 => drop(client.mkdir(place, 0o700, None)),
        7 => drop(client.mknod(place, NodeKind::Fifo, 0o600, None)),
        8 => drop(client.symlink(place, b"target", None)),
        9 => drop(client.unlink(place)),
        10 => drop(client.rename(place, path("b"), RenameFlags::empty())),
        11 => drop(client.set_attr(place, &SetAttr::default())),
        12 => drop(client.stat_fs(place)),
        13 => drop(client.read_dir(place, true)),
        14 => drop(client.read_dirs(place, path("a/b"), true, 10)),
        15 => {
            if let Ok(target) = client.read_link(place) {
                assert!(!target.is_empty() && !target.contains(&0));
            }
        }
        16 => drop(client.get_xattr(place, b"user.a")),
        17 => drop(client.list_xattr(place)),
        _ => drop(client.fsync(place, false)),
    }
    opened
}

/// A good reply to each call.
fn seeds() -> Vec<Vec<u8>> {
    let attr = directory_attr();
    let entry = |name: &[u8]| DirEntry {
        name: name.to_vec(),
        ino: 5,
        kind: FileType::Directory,
        attr: Some(attr),
    };
    let mut all = Vec::new();
    let mut add = |call: u8, gifts: [u8; 3], body: &dyn Fn(&mut Writer)| {
        let mut out = Writer::new();
        for byte in [call, gifts[0], gifts[1], gifts[2], 0, 0] {
            out.u8(byte);
        }
        encode_status(&mut out, None);
        body(&mut out);
        all.push(out.as_bytes().to_vec());
    };
    for call in [0, 6, 7, 8, 11] {
        add(call, [0; 3], &|out| attr.encode(out));
    }
    let marker = |out: &mut Writer| b"@file".iter().for_each(|byte| out.u8(*byte));
    add(1, [2, 0, 0], &|out| {
        attr.encode(out);
        out.u32(2);
        attr.encode(out);
        marker(out);
        WalkEnd::Complete.encode(out);
        out.option(Some(()), |out, ()| out.bool(false));
    });
    add(2, [0; 3], &|out| {
        let body = WalkBody { base: attr, attrs: Vec::new(), end: WalkEnd::Missing, file: None };
        body.encode(out);
    });
    add(3, [2, 0, 0], &marker);
    add(5, [2, 0, 0], &marker);
    add(4, [2, 2, 0], &|out| {
        for _ in 0..2 {
            out.bool(true);
            marker(out);
        }
        out.bool(false);
        Errno::EACCES.encode(out);
    });
    add(9, [0; 3], &|_| ());
    add(12, [0; 3], &|out| StatFs { magic: 7, ..StatFs::default() }.encode(out));
    let listing = |out: &mut Writer| {
        attr.encode(out);
        DirItem::Entry(entry(b"a")).encode(out);
        DirItem::Entry(entry(b"b")).encode(out);
        DirItem::End.encode(out);
    };
    add(13, [0; 3], &listing);
    add(14, [0; 3], &|out| {
        listing(out);
        out.bool(true);
        out.bytes(b"a");
        listing(out);
        out.bool(false);
    });
    for call in [15, 16, 17] {
        add(call, [0; 3], &|out| out.bytes(b"some bytes"));
    }
    add(18, [5, 0, 0], &|_| ());
    all
}
