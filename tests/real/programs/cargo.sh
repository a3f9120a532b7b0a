# A small crate, offline.
# needs: cargo
mkdir -p c/src && cd c
printf '[package]\nname = "c"\nversion = "0.1.0"\nedition = "2021"\n' >Cargo.toml
cat >src/main.rs <<'X'
use std::{collections::BTreeMap, sync::mpsc, thread};
fn main() {
    let (send, receive) = mpsc::channel();
    for n in 0..8u64 { let send = send.clone(); thread::spawn(move || send.send((n, (0..=n).product::<u64>() + n)).unwrap()); }
    drop(send);
    println!("{:?}", receive.iter().collect::<BTreeMap<_, _>>());
}
#[test] fn adds() { assert_eq!(1 + 1, 2); }
X
cargo build --offline --release 2>/dev/null && target/release/c && cargo test --offline 2>/dev/null | grep 'test result' | sed 's/finished in .*//'
