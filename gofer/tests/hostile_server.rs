//! A gofer that answers whatever it likes: the client gets `EIO`, keeps no
//! descriptor, and is dead from then on.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use gofer_wire::{
    Attr, GoferClient, OpenHow, Place, TreeId, TreeInfo, TreePath,
    codec::{Wire, Writer},
    reply::{HelloReply, encode_status},
    request::Request,
    transport::{Inbox, send, socket_pair},
};
use linux_abi::Errno;

type Answer = Box<dyn Fn(&OwnedFd, &Request<'_>) + Send + Sync>;

fn root() -> Place<'static> {
    Place::new(TreeId(0), TreePath::ROOT)
}

fn ok(body: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Writer::new();
    encode_status(&mut out, None);
    body(&mut out);
    out.as_bytes().to_vec()
}

/// A server that greets and opens channels as it should, and else answers as told.
fn client(answer: Answer) -> GoferClient {
    let (ours, theirs) = socket_pair().unwrap();
    let answer = Arc::new(answer);
    thread::spawn(move || serve(&ours, &answer));
    GoferClient::connect(theirs).unwrap()
}

fn serve(socket: &OwnedFd, answer: &Arc<Answer>) {
    let mut inbox = Inbox::new();
    while inbox.receive(socket, 1 << 20, None).is_ok() {
        match Request::decode(inbox.message()).unwrap() {
            Request::Hello { .. } => {
                let attr = Attr { mode: 0o040_755, ..Attr::default() };
                let trees = vec![TreeInfo { id: TreeId(0), read_only: true, attr }];
                let hello = HelloReply { version: gofer_wire::VERSION, max_channels: 4, trees };
                send(socket, &ok(|out| hello.encode(out)), &[]).unwrap();
            }
            Request::OpenChannel { .. } => {
                let (ours, theirs) = socket_pair().unwrap();
                let answer = answer.clone();
                thread::spawn(move || serve(&ours, &answer));
                send(socket, &ok(|_| {}), &[theirs.as_fd()]).unwrap();
            }
            request => answer(socket, &request),
        }
    }
}

fn assert_given_up(client: &GoferClient, first: Errno) {
    assert_eq!(first, Errno::EIO);
    assert!(client.is_dead());
    assert_eq!(client.get_attr(root()), Err(Errno::EIO));
}

#[test]
fn malformed_replies_end_the_trust() {
    let attr = Attr { mode: 0o100_644, ..Attr::default() };
    let answers: Vec<Vec<u8>> = vec![
        vec![],
        vec![0],
        vec![0xff; 4],        // an error number out of range
        ok(|_| {}),           // no body
        ok(|out| out.u64(1)), // cut short
        ok(|out| {
            attr.encode(out);
            out.u8(0);
        }), // too long
        ok(|out| Attr { mode: 0, ..attr }.encode(out)),
        ok(|out| Attr { size: u64::MAX, ..attr }.encode(out)),
    ];
    for bytes in answers {
        let client = client(Box::new(move |socket, _| send(socket, &bytes, &[]).unwrap()));
        let error = client.get_attr(root()).unwrap_err();
        assert_given_up(&client, error);
    }
}

#[test]
fn errors_are_passed_on_and_the_trust_stays() {
    let client = client(Box::new(|socket, _| {
        let mut out = Writer::new();
        encode_status(&mut out, Some(Errno::EACCES));
        send(socket, out.as_bytes(), &[]).unwrap();
    }));
    assert_eq!(client.get_attr(root()), Err(Errno::EACCES));
    assert_eq!(client.read_dir(root(), true).unwrap_err(), Errno::EACCES);
    assert!(!client.is_dead());
}

#[test]
fn files_that_do_not_fit_the_reply_are_refused_and_closed() {
    let regular = Attr { mode: 0o100_644, ino: 1, ..Attr::default() };
    // A pipe where a regular file should be; a file nobody asked for; no file.
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let given = reader.try_clone().unwrap();
    let client1 = client(Box::new(move |socket, _| {
        send(socket, &ok(|out| regular.encode(out)), &[given.as_fd()]).unwrap();
    }));
    assert_given_up(&client1, client1.open(root(), OpenHow::READ).unwrap_err());
    let given = reader.try_clone().unwrap();
    let client2 = client(Box::new(move |socket, _| {
        send(socket, &ok(|out| regular.encode(out)), &[given.as_fd()]).unwrap();
    }));
    assert_given_up(&client2, client2.get_attr(root()).unwrap_err());
    let client3 = client(Box::new(move |socket, _| {
        send(socket, &ok(|out| regular.encode(out)), &[]).unwrap();
    }));
    assert_given_up(&client3, client3.open(root(), OpenHow::READ).unwrap_err());
    // A regular file, but another one than the reply says.
    let file = std::fs::File::open("/etc/passwd").unwrap();
    let client4 = client(Box::new(move |socket, _| {
        send(socket, &ok(|out| regular.encode(out)), &[file.as_fd()]).unwrap();
    }));
    assert_given_up(&client4, client4.open(root(), OpenHow::READ).unwrap_err());
    drop((client1, client2, client3, client4, reader));
    // All copies of the read end go once the servers' threads have ended.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while rustix::io::write(&writer, b"x") != Err(rustix::io::Errno::PIPE) {
        assert!(std::time::Instant::now() < deadline, "a descriptor is left over");
        thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn death_is_noticed_by_all_and_told_once() {
    let client = Arc::new(client(Box::new(|socket, _| {
        // Gone in the middle of a call.
        let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
    })));
    let told = Arc::new(AtomicU32::new(0));
    let count = told.clone();
    client.on_death(move || {
        let _ = count.fetch_add(1, Ordering::Relaxed);
    });
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let client = client.clone();
            thread::spawn(move || client.get_attr(root()))
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.join().unwrap(), Err(Errno::EIO));
    }
    assert!(client.is_dead());
    assert_eq!(told.load(Ordering::Relaxed), 1);
}

#[test]
fn a_server_that_does_not_greet_is_no_server() {
    let (ours, theirs) = socket_pair().unwrap();
    drop(ours);
    assert_eq!(GoferClient::connect(theirs).unwrap_err(), Errno::EIO);
    let (ours, theirs) = socket_pair().unwrap();
    thread::spawn(move || {
        let mut inbox = Inbox::new();
        inbox.receive(&ours, 100, None).unwrap();
        let hello = HelloReply { version: 99, max_channels: 1, trees: vec![] };
        send(&ours, &ok(|out| hello.encode(out)), &[]).unwrap();
    });
    assert_eq!(GoferClient::connect(theirs).unwrap_err(), Errno::EIO);
}
