//! Many callers at once, and what one call costs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::{fs, sync::Arc, time::Instant};

use common::{Fixture, path, ro};
use gofer_wire::OpenHow;
use linux_abi::Errno;

#[test]
fn more_callers_than_channels_all_get_their_own_answer() {
    let f = Arc::new(Fixture::new());
    for number in 0..40 {
        fs::write(f.path(&format!("{number}")), vec![b'x'; number]).unwrap();
    }
    let callers: Vec<_> = (0..40)
        .map(|number| {
            let f = f.clone();
            std::thread::spawn(move || {
                let name = number.to_string();
                for _ in 0..50 {
                    let attr = f.client.get_attr(ro(&name)).unwrap();
                    assert_eq!(attr.size, number);
                    let opened = f.client.open(ro(&name), OpenHow::READ).unwrap();
                    assert_eq!(opened.attr.ino, attr.ino);
                    assert_eq!(f.client.get_attr(ro("none")), Err(Errno::ENOENT));
                }
            })
        })
        .collect();
    for caller in callers {
        caller.join().unwrap();
    }
}

#[test]
fn the_server_ends_when_the_client_goes() {
    let f = Fixture::new();
    f.client.get_attr(ro("")).unwrap();
    let Fixture { client, server, .. } = f;
    drop(client);
    server.join().unwrap();
}

/// Not a test of speed, but the place to see it: `--ignored --nocapture`.
#[test]
#[ignore = "prints timings"]
fn timings() {
    let f = Fixture::new();
    fs::create_dir_all(f.path("usr/lib/x86_64")).unwrap();
    fs::write(f.path("usr/lib/x86_64/libc.so"), b"x").unwrap();
    let time = |what: &str, call: &dyn Fn()| {
        for _ in 0..100 {
            call();
        }
        let rounds = 5000;
        let start = Instant::now();
        for _ in 0..rounds {
            call();
        }
        println!("{what}: {:.1} us", start.elapsed().as_secs_f64() * 1e6 / f64::from(rounds));
    };
    let file = "usr/lib/x86_64/libc.so";
    time("hello-sized: get_attr of the root", &|| {
        let _ = f.client.get_attr(ro(""));
    });
    time("get_attr of a file four deep", &|| {
        let _ = f.client.get_attr(ro(file));
    });
    time("walk of four names", &|| drop(f.client.walk(ro(""), path(file), None)));
    time("walk of four names and open", &|| {
        drop(f.client.walk(ro(""), path(file), Some(OpenHow::READ)).unwrap().file.unwrap());
    });
    time("open", &|| drop(f.client.open(ro(file), OpenHow::READ)));
    time("natively: open and fstat", &|| {
        let _ = fs::File::open(f.path(file)).unwrap().metadata().unwrap();
    });
}
