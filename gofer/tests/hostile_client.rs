//! A client that sends whatever it likes: the server answers with errors, leaks
//! nothing, and goes on.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::{
    fs,
    io::{IoSlice, Read},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::symlink,
    },
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use common::{Fixture, TempDir, path, ro, rw};
use gofer::{ServerConfig, TreeConfig};
use gofer_wire::{
    FileType, GoferClient, OpenHow, RenameFlags, TreeId, WalkEnd,
    codec::{Reader, Writer},
    reply::decode_status,
    request::{Request, Walk},
    transport::{Files, Inbox, ReceiveError, send, send_fragment},
};
use linux_abi::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// Small and repeatable: splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

fn raw(dir: &TempDir) -> OwnedFd {
    let config = ServerConfig::new(vec![
        TreeConfig::read_only(0, dir.path()),
        TreeConfig::writable(1, dir.path()),
    ]);
    common::start(config).1
}

/// What the server says to these bytes.
fn ask(socket: &OwnedFd, message: &[u8]) -> Option<Errno> {
    send(socket, message, &[]).unwrap();
    let (mut inbox, mut file) = (Inbox::new(), Files::up_to(1));
    inbox.receive(socket, 1 << 20, Some(&mut file)).unwrap();
    decode_status(&mut Reader::new(inbox.message())).unwrap()
}

fn hello() -> Vec<u8> {
    let mut out = Writer::new();
    Request::Hello { version: gofer_wire::VERSION }.encode(&mut out);
    out.as_bytes().to_vec()
}

#[test]
fn random_bytes_are_answered_with_errors() {
    let dir = TempDir::new();
    let socket = raw(&dir);
    let mut random = Random(1);
    for round in 0..3000 {
        let mut bytes: Vec<u8> = (0..random.below(200)).map(|_| random.next() as u8).collect();
        // Half of them with the number of an operation, to come further.
        if round % 2 == 0 && bytes.len() > 2 {
            bytes[0] = (random.below(24) + 1) as u8;
            bytes[1] = 0;
        }
        let hits_hello_or_channel = matches!(bytes.get(..2), Some([1 | 2, 0]));
        let status = ask(&socket, &bytes);
        assert!(status.is_some() || hits_hello_or_channel, "{bytes:?}");
    }
    assert_eq!(ask(&socket, &hello()), None);
}

#[test]
fn mutated_requests_never_stop_the_server() {
    let dir = TempDir::new();
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("d/f"), b"x").unwrap();
    let socket = raw(&dir);
    let mut random = Random(2);
    let walk = Walk { base: ro("d"), names: path("f"), open: Some(OpenHow::READ) };
    let requests = [
        Request::Walk(walk),
        Request::Open(ro("d/f"), OpenHow::READ),
        Request::ReadDir { place: ro("d"), attrs: true },
        Request::Rename { from: rw("d/f"), to: path("d/g"), flags: RenameFlags::empty() },
        Request::SetXattr { place: rw("d/f"), name: b"user.x", value: b"v", flags: 0 },
    ];
    for round in 0..3000 {
        let mut out = Writer::new();
        requests[round % requests.len()].encode(&mut out);
        let mut bytes = out.as_bytes().to_vec();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len());
            bytes[at] = random.next() as u8;
        }
        bytes.truncate(random.below(bytes.len() * 4) + 1);
        ask(&socket, &bytes);
    }
    assert_eq!(ask(&socket, &hello()), None);
}

#[test]
fn broken_framing_ends_the_connection_and_nothing_else() {
    let dir = TempDir::new();
    // A packet flag that is none; an empty packet; an endless message.
    let socket = raw(&dir);
    let parts = [IoSlice::new(&[9, 1, 2])];
    sendmsg(&socket, &parts, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL).unwrap();
    let mut inbox = Inbox::new();
    assert_eq!(inbox.receive(&socket, 100, None), Err(ReceiveError::Closed));

    let socket = raw(&dir);
    send_fragment(&socket, b"", true, &[]).unwrap();
    assert_eq!(inbox.receive(&socket, 100, None), Err(ReceiveError::Closed));

    let socket = raw(&dir);
    let piece = vec![0; gofer_wire::MAX_FRAGMENT];
    let mut sent = 0;
    while send_fragment(&socket, &piece, true, &[]).is_ok() {
        sent += piece.len();
        assert!(sent <= 2 * gofer_wire::MAX_REQUEST, "the server takes it all");
    }
}

#[test]
fn descriptors_sent_to_the_server_are_dropped() {
    let dir = TempDir::new();
    let socket = raw(&dir);
    ask(&socket, &hello());
    let (gift, kept) = rustix::pipe::pipe().unwrap();
    for _ in 0..50 {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let gifts = [gift.as_fd(), gift.as_fd(), gift.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&gifts));
        let message = hello();
        let parts = [IoSlice::new(&[0]), IoSlice::new(&message)];
        sendmsg(&socket, &parts, &mut control, SendFlags::NOSIGNAL).unwrap();
        let mut inbox = Inbox::new();
        inbox.receive(&socket, 1 << 20, None).unwrap();
    }
    drop(gift);
    // The pipe's other end hangs up only if no copy of this end is left anywhere.
    let error = rustix::io::write(&kept, b"x").unwrap_err();
    assert_eq!(error, rustix::io::Errno::PIPE);
}

#[test]
fn channels_are_bounded() {
    let dir = TempDir::new();
    let mut config = ServerConfig::new(vec![TreeConfig::read_only(0, dir.path())]);
    config.max_channels = 3;
    let socket = common::start(config).1;
    let mut out = Writer::new();
    Request::OpenChannel { processor: None }.encode(&mut out);
    let mut channels = Vec::new();
    for _ in 0..3 {
        send(&socket, out.as_bytes(), &[]).unwrap();
        let (mut inbox, mut file) = (Inbox::new(), Files::up_to(1));
        inbox.receive(&socket, 100, Some(&mut file)).unwrap();
        channels.push(file.take().unwrap());
    }
    assert_eq!(ask(&socket, out.as_bytes()), Some(Errno::EUSERS));
    channels.pop();
    let deadline = Instant::now() + Duration::from_secs(10);
    while ask(&socket, out.as_bytes()).is_some() {
        assert!(Instant::now() < deadline, "a closed channel is never counted off");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_client_that_reads_nothing_holds_up_only_itself() {
    let dir = TempDir::new();
    for number in 0..2000 {
        fs::write(dir.path().join(format!("a-name-that-takes-some-room-{number}")), b"").unwrap();
    }
    let config = ServerConfig::new(vec![TreeConfig::read_only(0, dir.path())]);
    let socket = common::start(config).1;
    let mut out = Writer::new();
    Request::OpenChannel { processor: None }.encode(&mut out);
    send(&socket, out.as_bytes(), &[]).unwrap();
    let (mut inbox, mut lazy) = (Inbox::new(), Files::up_to(1));
    inbox.receive(&socket, 100, Some(&mut lazy)).unwrap();
    let lazy = lazy.take().unwrap();
    out.clear();
    Request::ReadDir { place: ro(""), attrs: true }.encode(&mut out);
    for _ in 0..3 {
        send(&lazy, out.as_bytes(), &[]).unwrap();
    }
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(ask(&socket, &hello()), None);
}

/// While a directory is swapped for a link out of the tree again and again, no
/// request ever sees or touches what is outside.
#[test]
fn racing_renames_never_lead_out_of_the_tree() {
    let f = Fixture::new();
    let outside = TempDir::new();
    fs::write(outside.path().join("secret"), b"outside").unwrap();
    fs::create_dir(f.path("dir")).unwrap();
    fs::write(f.path("dir/secret"), b"inside").unwrap();
    symlink(outside.path(), f.path("link")).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let swapper = {
        let (done, root) = (
            done.clone(),
            rustix::fs::open(f.dir.path(), rustix::fs::OFlags::PATH, rustix::fs::Mode::empty())
                .unwrap(),
        );
        std::thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                let exchange = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(&root, "dir", &root, "link", exchange).unwrap();
            }
        })
    };
    let (mut inside, mut refused) = (0, 0);
    let outside_ino = {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(outside.path().join("secret")).unwrap().ino()
    };
    let end = Instant::now() + Duration::from_millis(600);
    while Instant::now() < end {
        match f.client.open(ro("dir/secret"), OpenHow::READ) {
            Ok(opened) => {
                assert_ne!(opened.attr.ino, outside_ino);
                inside += 1;
            }
            Err(Errno::ELOOP | Errno::ENOTDIR) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
        let reply = f.client.walk(ro(""), path("dir/secret"), Some(OpenHow::READ)).unwrap();
        match reply.end {
            WalkEnd::Complete => {
                let mut text = String::new();
                let mut file = fs::File::from(reply.file.unwrap().unwrap());
                file.read_to_string(&mut text).unwrap();
                assert_eq!(text, "inside");
            }
            WalkEnd::Symlink(_) => assert_eq!(reply.attrs[0].file_type(), FileType::Symlink),
            other => panic!("{other:?}"),
        }
        let _ = f.client.unlink(rw("dir/other"));
        let _ = f.client.create(rw("dir/other"), 0o600, None, OpenHow::WRITE);
    }
    done.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
    assert!(inside > 0 && refused > 0, "both sides of the race were seen: {inside} {refused}");
    assert!(!outside.path().join("other").exists());
}

#[test]
fn a_served_tree_that_is_not_named_is_not_reached() {
    let dir = TempDir::new();
    let socket = raw(&dir);
    let client = GoferClient::connect(socket).unwrap();
    let place = gofer_wire::Place::new(TreeId(7), path(""));
    assert_eq!(client.get_attr(place), Err(Errno::ENODEV));
}
