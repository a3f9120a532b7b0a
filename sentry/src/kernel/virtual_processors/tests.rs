//! Who has which processor when.

use std::{
    sync::atomic::AtomicBool,
    thread::{self, JoinHandle},
};

use super::*;

/// A thread's kick: it sees that it is to leave guest code.
#[derive(Debug, Default)]
struct Flag(AtomicBool);

impl Kick for Flag {
    fn kick(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct Thread {
    owner: Owner,
    kicked: Arc<Flag>,
}

fn thread(all: &VirtualProcessors) -> Thread {
    let kicked = Arc::new(Flag::default());
    let owner = all.new_owner(Some(kicked.clone()), TaskWaker::new());
    Thread { owner, kicked }
}

fn processors(count: usize) -> Arc<VirtualProcessors> {
    VirtualProcessors::new(count, Arc::new(TimerQueue::new()))
}

/// Takes a processor on a host thread of its own, which gives it up at once.
fn waits(
    all: &Arc<VirtualProcessors>,
    mut owner: Owner,
    allowed: Option<Box<[u64]>>,
) -> JoinHandle<Option<u32>> {
    let before = all.waiting.load(Ordering::SeqCst);
    let theirs = all.clone();
    let handle = thread::spawn(move || {
        let taken = theirs.take(&mut owner, None, allowed);
        if let Some(processor) = taken {
            theirs.leave(&owner, processor);
            theirs.give_up(&owner, processor);
        }
        taken
    });
    while all.waiting.load(Ordering::SeqCst) == before && !handle.is_finished() {
        thread::yield_now();
    }
    handle
}

#[test]
fn a_processor_stays_its_owners_until_another_takes_it() {
    let all = processors(1);
    let (mut a, mut b) = (thread(&all).owner, thread(&all).owner);
    assert_eq!(all.take(&mut a, None, None), Some(0));
    all.leave(&a, 0);
    assert!(all.resume(&a, 0));
    all.leave(&a, 0);
    all.give_up(&a, 0);
    assert!(all.resume(&a, 0), "nobody else wanted it");
    all.leave(&a, 0);
    all.give_up(&a, 0);
    assert_eq!(all.take(&mut b, None, None), Some(0));
    assert!(!all.resume(&a, 0));
    all.give_up(&a, 0);
    all.leave(&b, 0);
    assert!(all.resume(&b, 0));
    assert!(!all.resume(&b, 1), "there is no such processor");
}

#[test]
fn the_last_one_is_preferred_and_others_are_found() {
    let all = processors(3);
    let (mut a, mut b) = (thread(&all).owner, thread(&all).owner);
    assert_eq!(all.take(&mut a, Some(2), None), Some(2));
    assert_eq!(all.take(&mut b, Some(2), None), Some(0));
    let mut c = thread(&all).owner;
    assert_eq!(all.take(&mut c, Some(0), Some([0b110].into())), Some(1));
}

#[test]
fn a_mask_without_any_processor_is_none() {
    let all = processors(1);
    let mut a = thread(&all).owner;
    assert_eq!(all.take(&mut a, None, Some([0b10].into())), Some(0));
}

#[test]
fn who_waits_gets_it_when_it_is_given_up() {
    let all = processors(1);
    let (mut a, b) = (thread(&all).owner, thread(&all).owner);
    assert_eq!(all.take(&mut a, None, None), Some(0));
    let waiter = waits(&all, b, None);
    all.leave(&a, 0);
    all.give_up(&a, 0);
    assert_eq!(waiter.join().unwrap(), Some(0));
    assert_eq!(all.waiting.load(Ordering::SeqCst), 0);
}

#[test]
fn the_end_of_a_slice_is_the_end_of_its_turn() {
    let all = processors(1);
    let (mut a, b) = (thread(&all), thread(&all).owner);
    assert_eq!(all.take(&mut a.owner, None, None), Some(0));
    let waiter = waits(&all, b, None);
    while !a.kicked.0.load(Ordering::SeqCst) {
        thread::yield_now();
    }
    all.leave(&a.owner, 0);
    assert!(!all.resume(&a.owner, 0));
    assert_eq!(waiter.join().unwrap(), Some(0));
}

#[test]
fn one_that_is_trapped_loses_its_processor_at_the_end_of_its_slice() {
    let all = processors(1);
    let (mut a, b) = (thread(&all), thread(&all).owner);
    assert_eq!(all.take(&mut a.owner, None, None), Some(0));
    all.leave(&a.owner, 0);
    assert_eq!(waits(&all, b, None).join().unwrap(), Some(0));
    assert!(!a.kicked.0.load(Ordering::SeqCst));
    assert!(!all.resume(&a.owner, 0));
}

#[test]
fn who_is_interrupted_stops_waiting_and_keeps_its_place() {
    let all = processors(1);
    let (mut a, mut b, c) = (thread(&all).owner, thread(&all).owner, thread(&all).owner);
    assert_eq!(all.take(&mut a, None, None), Some(0));
    b.waker.interrupt();
    assert_eq!(all.take(&mut b, None, None), None);
    assert_eq!(all.waiting.load(Ordering::SeqCst), 0);
    let later = waits(&all, c, None);
    b.waker.clear_interrupt();
    let first = b.number;
    let earlier = waits(&all, b, None);
    assert_eq!(all.state.lock().queue.front().map(|seat| seat.owner.number), Some(first));
    all.leave(&a, 0);
    all.give_up(&a, 0);
    assert_eq!((earlier.join().unwrap(), later.join().unwrap()), (Some(0), Some(0)));
}

#[test]
fn who_may_have_only_a_busy_one_lets_others_pass() {
    let all = processors(2);
    let (mut a, mut b) = (thread(&all).owner, thread(&all).owner);
    let (c, d) = (thread(&all).owner, thread(&all).owner);
    assert_eq!(all.take(&mut a, None, None), Some(0));
    assert_eq!(all.take(&mut b, None, None), Some(1));
    let first = waits(&all, c, Some([0b01].into()));
    let second = waits(&all, d, None);
    all.leave(&b, 1);
    all.give_up(&b, 1);
    assert_eq!(second.join().unwrap(), Some(1));
    all.leave(&a, 0);
    all.give_up(&a, 0);
    assert_eq!(first.join().unwrap(), Some(0));
}

/// Eight threads on two processors, in and out by all ways.
#[test]
fn no_two_have_the_same() {
    const TURNS: u32 = 3000;
    let all = processors(2);
    let taken: Arc<[AtomicBool; 2]> = Arc::default();
    let workers: Vec<_> = (0..8_u32)
        .map(|number| {
            let (all, taken) = (all.clone(), taken.clone());
            thread::spawn(move || {
                let Thread { mut owner, kicked } = thread(&all);
                let allowed = (number == 7).then(|| Box::from([0b10]));
                let mut last: Option<u32> = None;
                for turn in 0..TURNS {
                    let mut own = last.filter(|&processor| all.resume(&owner, processor));
                    while own.is_none() {
                        own = all.take(&mut owner, last, allowed.clone());
                        owner.waker.clear_interrupt();
                    }
                    let processor = own.unwrap();
                    last = own;
                    assert!(!taken[processor as usize].swap(true, Ordering::SeqCst));
                    for _ in 0..turn % 64 * 16 {
                        std::hint::spin_loop();
                    }
                    let was_kicked = kicked.0.swap(false, Ordering::SeqCst);
                    assert!(taken[processor as usize].swap(false, Ordering::SeqCst));
                    all.leave(&owner, processor);
                    if turn % 8 == number && !was_kicked {
                        all.give_up(&owner, processor);
                    }
                    if turn % 128 == 0 {
                        owner.waker.interrupt();
                    }
                }
                if let Some(processor) = last {
                    all.give_up(&owner, processor);
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    assert_eq!(all.waiting.load(Ordering::SeqCst), 0);
    assert!(all.state.lock().queue.is_empty());
}
