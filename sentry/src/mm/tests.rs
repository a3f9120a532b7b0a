//! Address spaces over a pretended host, which keeps what it was told page by page.

use std::{collections::BTreeMap, sync::Arc};

use platform::{
    AccessKind, AddressSpace, Backing, Context, MapOp, PAGE_SIZE, PlatformError, Prot,
    memory::{FileRange, MemoryFile},
};
use ranked_sync::Mutex;

use super::*;
use crate::{
    lock_order,
    user::{UserAddr, UserMemory},
};

const PAGE: u64 = PAGE_SIZE;
const RW: Prot = Prot::READ.union(Prot::WRITE);
const USER: std::ops::Range<u64> = 0x1_0000..0x7fff_ffff_f000;

/// Protection and memory-file offset of each page.
type Pages = BTreeMap<u64, (Prot, Option<u64>)>;

#[derive(Debug, Default)]
struct PretendSpace {
    pages: Mutex<lock_order::WaitQueue, Pages>,
    calls: Mutex<lock_order::WaitQueue, usize>,
}

impl AddressSpace for PretendSpace {
    fn apply(&self, ops: &[MapOp]) -> Result<(), PlatformError> {
        *self.calls.lock() += 1;
        let mut pages = self.pages.lock();
        for op in ops {
            match op {
                MapOp::Map { addr, len, prot, backing, .. } => {
                    assert!(addr % PAGE == 0 && len % PAGE == 0 && *len > 0);
                    for at in (0..*len).step_by(PAGE as usize) {
                        let place = match backing {
                            Backing::Memory(range) => {
                                assert_eq!(range.len(), *len);
                                Some(range.start + at)
                            }
                            Backing::Host { .. } => None,
                        };
                        pages.insert(addr + at, (*prot, place));
                    }
                }
                MapOp::Unmap { addr, len } => {
                    pages.retain(|at, _| !(*addr..addr + len).contains(at))
                }
                MapOp::Protect { addr, len, prot } => {
                    for (_, page) in pages.range_mut(*addr..addr + len) {
                        page.0 = *prot;
                    }
                }
            }
        }
        Ok(())
    }
    fn clear(&self) -> Result<(), PlatformError> {
        self.pages.lock().clear();
        Ok(())
    }
    fn new_context(self: Arc<Self>) -> Result<Box<dyn Context>, PlatformError> {
        Err(PlatformError::Unsupported("pretended".into()))
    }
}

struct Setup {
    memory: Arc<MemoryFile>,
    space: Arc<PretendSpace>,
    mm: Arc<MemoryManager>,
}

fn setup() -> Setup {
    let memory = Arc::new(MemoryFile::new(None).unwrap());
    let space = Arc::new(PretendSpace::default());
    let mm = MemoryManager::new(space.clone(), memory.clone(), USER);
    Setup { memory, space, mm }
}

impl Setup {
    fn map(&self, addr: u64, pages: u64, prot: Prot) -> u64 {
        let placement = if addr == 0 { Placement::Anywhere } else { Placement::Fixed };
        self.mm.map(MapRequest::anonymous(addr, pages * PAGE, prot, placement)).unwrap()
    }
}

/// The host must have exactly the page ranges that it was told of, with their places and protections, and nothing where it
/// is told later.
fn check(mm: &MemoryManager, space: &PretendSpace) {
    let state = mm.state.read();
    let mut expected = Pages::new();
    for (range, pma) in state.pmas.iter() {
        for at in (range.start..range.end).step_by(PAGE as usize) {
            let mut page = pma.clone();
            range_map::RangeValue::advance(&mut page, at - range.start);
            expected.insert(at, (page.host_prot(), page.memory(PAGE).map(|m| m.start)));
        }
        assert!(state.vmas.gaps(range.clone()).is_empty(), "pages outside any mapping: {range:x?}");
    }
    let mut host = space.pages.lock().clone();
    assert!(host.keys().all(|at| state.deferred.find(*at).is_none()));
    expected.retain(|at, _| state.deferred.find(*at).is_none());
    // What has no place may be left mapped without any rights.
    host.retain(|at, _| expected.contains_key(at));
    assert_eq!(host, expected);
    let sum: u64 = state.vmas.iter().map(|(range, _)| range.end - range.start).sum();
    assert_eq!(state.total, sum);
}

#[test]
fn one_mmap_is_one_host_call_and_neighbours_merge() {
    let s = setup();
    let a = s.map(0, 4, RW);
    let b = s.map(0, 4, RW);
    assert_eq!(a, b + 4 * PAGE, "placed top-down");
    assert_eq!(*s.space.calls.lock(), 2);
    assert_eq!(s.mm.state.read().vmas.len(), 1);
    check(&s.mm, &s.space);
    s.mm.copy_out(UserAddr(b), b"hello").unwrap();
    s.mm.unmap(b + PAGE, PAGE).unwrap();
    check(&s.mm, &s.space);
    assert_eq!(s.mm.state.read().vmas.len(), 2);
    let mut bytes = [0; 5];
    s.mm.copy_in(UserAddr(b), &mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");
    assert!(s.mm.copy_in(UserAddr(b + PAGE), &mut bytes).is_err());
    assert_eq!(s.mm.copy_out_partial(UserAddr(b + PAGE - 2), b"abcd"), Ok(2));
}

fn fork(mm: &MemoryManager, space: &Arc<PretendSpace>) -> Arc<MemoryManager> {
    let child = mm.fork(space.clone(), true).unwrap();
    assert!(space.pages.lock().is_empty());
    child.finish_fork().unwrap();
    child
}

#[test]
fn fork_copies_on_write_both_ways() {
    let s = setup();
    // More than is copied at once.
    let pages = 1100;
    let at = s.map(0, pages, RW);
    s.mm.copy_out(UserAddr(at), b"parent").unwrap();
    let space = Arc::new(PretendSpace::default());
    let child = fork(&s.mm, &space);
    check(&s.mm, &s.space);
    check(&child, &space);
    assert!(space.pages.lock().values().all(|(prot, _)| !prot.contains(Prot::WRITE)));
    child.copy_out(UserAddr(at), b"child!").unwrap();
    s.mm.handle_fault(at + 20 * PAGE, AccessKind::Write).unwrap();
    let mut bytes = [0; 6];
    s.mm.copy_in(UserAddr(at), &mut bytes).unwrap();
    assert_eq!(&bytes, b"parent");
    child.copy_in(UserAddr(at), &mut bytes).unwrap();
    assert_eq!(&bytes, b"child!");
    check(&s.mm, &s.space);
    check(&child, &space);
    drop(child);
    s.mm.handle_fault(at, AccessKind::Write).unwrap();
    check(&s.mm, &s.space);
    s.mm.copy_in(UserAddr(at), &mut bytes).unwrap();
    assert_eq!(&bytes, b"parent");
    s.mm.unmap(at, pages * PAGE).unwrap();
    assert_eq!(s.memory.used(), 0);
}

#[test]
fn a_small_parent_keeps_its_pages_and_fork_copies_them() {
    let s = setup();
    let at = s.map(0, 40, RW);
    for page in [0, 1, 30] {
        s.mm.copy_out(UserAddr(at + page * PAGE), b"parent").unwrap();
    }
    let before = s.space.pages.lock().clone();
    let space = Arc::new(PretendSpace::default());
    let child = fork(&s.mm, &space);
    check(&s.mm, &s.space);
    check(&child, &space);
    assert_eq!(*s.space.pages.lock(), before);
    assert!(space.pages.lock().values().all(|(prot, _)| prot.contains(Prot::WRITE)));
    assert_eq!(s.memory.used(), 6 * PAGE, "holes are not filled");
    for (page, bytes) in [(0, b"parent"), (1, b"parent"), (2, b"\0\0\0\0\0\0"), (30, b"parent")] {
        let mut got = [0; 6];
        child.copy_in(UserAddr(at + page * PAGE), &mut got).unwrap();
        assert_eq!(&got, bytes, "page {page}");
    }
    child.copy_out(UserAddr(at), b"child!").unwrap();
    let mut got = [0; 6];
    s.mm.copy_in(UserAddr(at), &mut got).unwrap();
    assert_eq!(&got, b"parent");
    drop(child);
    s.mm.unmap(at, 40 * PAGE).unwrap();
    assert_eq!(s.memory.used(), 0);
}

#[test]
fn parts_that_wait_are_told_together_by_a_fault_or_with_the_next_change() {
    let s = setup();
    let part = |addr: u64, pages: u64, prot| {
        let placement = if addr == 0 { Placement::Anywhere } else { Placement::Fixed };
        let mut request = MapRequest::anonymous(addr, pages * PAGE, prot, placement);
        request.is_part = true;
        s.mm.map(request).unwrap()
    };
    let at = part(0, 8, Prot::READ);
    part(at + 2 * PAGE, 2, Prot::READ | Prot::EXEC);
    s.map(at + 4 * PAGE, 2, RW);
    s.mm.protect(at + 5 * PAGE, PAGE, Prot::READ, false).unwrap();
    s.mm.unmap(at + 7 * PAGE, PAGE).unwrap();
    assert_eq!(*s.space.calls.lock(), 0);
    check(&s.mm, &s.space);
    s.mm.handle_fault(at + 2 * PAGE, AccessKind::Execute).unwrap();
    assert_eq!(*s.space.calls.lock(), 1);
    assert_eq!(s.space.pages.lock().len(), 7);
    check(&s.mm, &s.space);
    assert!(s.mm.handle_fault(at + 7 * PAGE, AccessKind::Read).is_err());
    let other = part(0, 3, Prot::READ);
    s.map(0, 1, RW);
    assert_eq!(*s.space.calls.lock(), 2);
    assert!(s.space.pages.lock().contains_key(&other));
    check(&s.mm, &s.space);
}

#[test]
fn shared_memory_is_shared_by_fork() {
    let s = setup();
    let mut request = MapRequest::anonymous(0, 2 * PAGE, RW, Placement::Anywhere);
    request.flags = VmaFlags::SHARED;
    let at = s.mm.map(request).unwrap();
    let space = Arc::new(PretendSpace::default());
    let child = fork(&s.mm, &space);
    child.copy_out(UserAddr(at), b"x").unwrap();
    let mut byte = [0];
    s.mm.copy_in(UserAddr(at), &mut byte).unwrap();
    assert_eq!(&byte, b"x");
    check(&child, &space);
    s.mm.unmap(at, 2 * PAGE).unwrap();
    child.copy_in(UserAddr(at), &mut byte).unwrap();
    drop(child);
    assert_eq!(s.memory.used(), 0);
}

#[test]
fn inaccessible_reservations_cost_no_host_call() {
    let s = setup();
    let at = s.map(0, 1000, Prot::empty());
    assert_eq!(*s.space.calls.lock(), 0);
    assert_eq!(s.mm.copy_out(UserAddr(at), b"x"), Err(linux_abi::Errno::EFAULT));
    s.mm.protect(at + PAGE, 10 * PAGE, RW, false).unwrap();
    check(&s.mm, &s.space);
    s.mm.copy_out(UserAddr(at + PAGE), b"x").unwrap();
    s.mm.protect(at, 1000 * PAGE, Prot::READ, false).unwrap();
    check(&s.mm, &s.space);
    let error = s.mm.handle_fault(at, AccessKind::Write).unwrap_err();
    assert_eq!((error.signal, error.code), (libc::SIGSEGV, 2));
    let error = s.mm.handle_fault(at + 1000 * PAGE, AccessKind::Read).unwrap_err();
    assert_eq!((error.signal, error.code), (libc::SIGSEGV, 1));
    assert_eq!(s.mm.protect(at + 999 * PAGE, 2 * PAGE, RW, false), Err(linux_abi::Errno::ENOMEM));
    assert_eq!(s.mm.state.read().vmas.len(), 2, "the part before the hole was changed");
}

#[test]
fn huge_reservations_are_filled_by_faults() {
    let s = setup();
    let mut request = MapRequest::anonymous(0, 1 << 44, RW, Placement::Anywhere);
    request.flags = VmaFlags::NORESERVE;
    let at = s.mm.map(request).unwrap();
    assert_eq!(*s.space.calls.lock(), 0);
    s.mm.handle_fault(at + (1 << 43) + 5, AccessKind::Write).unwrap();
    s.mm.copy_out(UserAddr(at + (1 << 42)), b"x").unwrap();
    assert_eq!(s.space.pages.lock().len(), 2 * (16 << 20) / PAGE as usize);
}

#[test]
fn the_heap_moves_and_the_stack_grows() {
    let s = setup();
    let image = ImageInfo { brk_start: 0x10_0000, brk: 0x10_0000, ..ImageInfo::default() };
    s.mm.set_image(image);
    assert_eq!(s.mm.brk(0), 0x10_0000);
    assert_eq!(s.mm.brk(0x10_2345), 0x10_2345);
    s.mm.copy_out(UserAddr(0x10_2ffe), b"x").unwrap();
    assert_eq!(s.mm.brk(0x20_0000), 0x20_0000);
    assert_eq!(s.mm.state.read().pmas.len(), 1, "the heap stays one host mapping");
    assert_eq!(s.mm.brk(0x10_1000), 0x10_1000);
    check(&s.mm, &s.space);
    assert_eq!(s.mm.brk(0x0f_0000), 0x10_1000);

    let top = 0x7000_0000_0000;
    let mut request = MapRequest::anonymous(top - 4 * PAGE, 4 * PAGE, RW, Placement::Fixed);
    request.flags = VmaFlags::GROWSDOWN;
    s.mm.map(request).unwrap();
    s.mm.handle_fault(top - (1 << 20), AccessKind::Write).unwrap();
    check(&s.mm, &s.space);
    assert!(s.mm.handle_fault(top - (9 << 20), AccessKind::Write).is_err(), "RLIMIT_STACK");
    s.map(top - (3 << 20), 1, RW);
    let near = top - (3 << 20) + 100 * PAGE;
    assert!(s.mm.handle_fault(near, AccessKind::Write).is_err(), "guard gap");
}

#[test]
fn fixed_replaces_and_noreplace_refuses() {
    let s = setup();
    let at = s.map(0x10_0000, 10, RW);
    s.mm.copy_out(UserAddr(at + 2 * PAGE), b"x").unwrap();
    s.map(at + 2 * PAGE, 2, Prot::READ);
    check(&s.mm, &s.space);
    let mut byte = [1];
    s.mm.copy_in(UserAddr(at + 2 * PAGE), &mut byte).unwrap();
    assert_eq!(byte, [0]);
    let request = |addr, placement| s.mm.map(MapRequest::anonymous(addr, PAGE, RW, placement));
    use linux_abi::Errno;
    assert_eq!(request(at, Placement::FixedNoReplace), Err(Errno::EEXIST));
    assert_eq!(request(at + 1, Placement::Fixed), Err(Errno::EINVAL));
    assert_eq!(request(0, Placement::Fixed), Err(Errno::EPERM));
    assert_eq!(request(USER.end, Placement::Fixed), Err(Errno::ENOMEM));
    assert_ne!(request(at, Placement::Anywhere), Ok(at));
    let low = request(0, Placement::Low).unwrap();
    assert!((0x4000_0000..0x8000_0000).contains(&low));
    for len in [0, u64::MAX, 1 << 60] {
        assert!(s.mm.map(MapRequest::anonymous(0, len, RW, Placement::Anywhere)).is_err());
    }
}

#[test]
fn pinned_pages_outlive_their_mapping() {
    let s = setup();
    let at = s.map(0, 4, RW);
    let mut iovecs = crate::vfs::UserIovecs::new();
    iovecs.push((UserAddr(at + 100), 5000));
    let pinned = s.mm.pin_for_io(&iovecs, true).unwrap().unwrap();
    let total: usize = pinned.slices().iter().map(|slice| slice.len()).sum();
    assert_eq!(total, 5000);
    s.mm.unmap(at, 4 * PAGE).unwrap();
    let other = s.map(0, 4, RW);
    for slice in pinned.slices() {
        slice.fill(7);
    }
    let mut bytes = [0; 200];
    s.mm.copy_in(UserAddr(other), &mut bytes).unwrap();
    assert_eq!(bytes, [0; 200]);
    drop(pinned);
    s.mm.unmap(other, 4 * PAGE).unwrap();
    assert_eq!(s.memory.used(), 0);
}

#[test]
fn futex_words_are_atomic_and_aligned() {
    let s = setup();
    let at = UserAddr(s.map(0, 1, RW));
    assert_eq!(s.mm.cmpxchg_u32(at, 0, 5), Ok(0));
    assert_eq!(s.mm.cmpxchg_u32(at, 0, 6), Ok(5));
    assert_eq!(s.mm.load_u32(at), Ok(5));
    assert_eq!(s.mm.load_u32(UserAddr(at.0 + 2)), Err(linux_abi::Errno::EINVAL));
}

/// Random changes, checked against the host after each.
#[test]
fn random_changes_keep_the_host_in_step() {
    let s = setup();
    let mut seed = 1_u64;
    let mut next = |bound: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % bound
    };
    let base = 0x10_0000;
    let mut children: Vec<(Arc<MemoryManager>, Arc<PretendSpace>)> = Vec::new();
    for _ in 0..600 {
        let (at, len) = (base + next(64) * PAGE, (1 + next(16)) * PAGE);
        let prot = [Prot::empty(), Prot::READ, RW, Prot::READ | Prot::EXEC][next(4) as usize];
        match next(8) {
            0 | 1 => drop(s.mm.map(MapRequest::anonymous(at, len, prot, Placement::Fixed))),
            2 => drop(s.mm.unmap(at, len)),
            3 => drop(s.mm.protect(at, len, prot, false)),
            4 => drop(s.mm.copy_out_partial(UserAddr(at), &[1; 6000])),
            5 => {
                let mut request = MapRequest::anonymous(at, len, prot, Placement::Fixed);
                request.is_part = true;
                let _ = s.mm.map(request);
            }
            6 => {
                let access = [AccessKind::Read, AccessKind::Write][next(2) as usize];
                if s.mm.handle_fault(at, access).is_ok() {
                    assert!(s.space.pages.lock().contains_key(&at));
                }
            }
            _ => {
                let space = Arc::new(PretendSpace::default());
                children.push((fork(&s.mm, &space), space));
                if children.len() > 3 {
                    children.remove(next(4) as usize);
                }
            }
        }
        check(&s.mm, &s.space);
        for (child, space) in &children {
            let _ = child.copy_out_partial(UserAddr(at), &[2; 100]);
            let _ = child.handle_fault(at + PAGE, AccessKind::Read);
            check(child, space);
        }
    }
    drop(children);
    s.mm.unmap(base, 128 * PAGE).unwrap();
    assert_eq!(s.memory.used(), 0);
    let whole = s.memory.allocate(PAGE, None).unwrap();
    assert!(s.memory.is_sole(FileRange { start: whole.start, end: whole.end }));
}

/// What each page of an address space should hold (its first byte), and its protection.
#[derive(Clone, Default)]
struct Model(BTreeMap<u64, (Prot, u8)>);

impl Model {
    fn check(&self, mm: &MemoryManager, window: std::ops::Range<u64>) {
        for at in window.step_by(PAGE as usize) {
            let mut byte = [0xee];
            let got = mm.copy_in(UserAddr(at), &mut byte).map(|()| byte[0]);
            let expected = match self.0.get(&at) {
                Some((prot, byte)) if !prot.is_empty() => Ok(*byte),
                _ => Err(linux_abi::Errno::EFAULT),
            };
            assert_eq!(got, expected, "at {at:x}");
        }
    }
}

/// Random changes, checked against a model of the contents.
#[test]
fn random_changes_keep_the_contents() {
    let s = setup();
    let mut seed = 7_u64;
    let mut next = |bound: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % bound
    };
    let base = 0x10_0000;
    let window = base..base + 64 * PAGE;
    let mut spaces = vec![(s.mm.clone(), s.space.clone(), Model::default())];
    for round in 0..1500_u64 {
        let which = next(spaces.len() as u64) as usize;
        let pages = 1 + next(12);
        let (at, len) = (base + next(52) * PAGE, pages * PAGE);
        let range = (at..at + len).step_by(PAGE as usize);
        let prot = [Prot::empty(), Prot::READ, RW, RW][next(4) as usize];
        let (mm, space, model) = &mut spaces[which];
        match next(8) {
            0 | 1 => {
                mm.map(MapRequest::anonymous(at, len, prot, Placement::Fixed)).unwrap();
                range.for_each(|page| {
                    model.0.insert(page, (prot, 0));
                });
            }
            2 => {
                mm.unmap(at, len).unwrap();
                range.for_each(|page| {
                    model.0.remove(&page);
                });
            }
            3 => {
                let _ = mm.protect(at, len, prot, false);
                for page in range {
                    let Some(found) = model.0.get_mut(&page) else { break };
                    found.0 = prot;
                }
            }
            4 => {
                let byte = 1 + (round % 250) as u8;
                for page in range {
                    if mm.copy_out(UserAddr(page), &[byte]).is_ok() {
                        model.0.get_mut(&page).unwrap().1 = byte;
                    }
                }
            }
            5 => {
                let _ = mm.advise(at, len, Advice::DontNeed { locked: false });
                for page in range {
                    if let Some(found) = model.0.get_mut(&page) {
                        found.1 = 0;
                    }
                }
            }
            6 => {
                let to = base + next(52) * PAGE;
                let request = RemapRequest {
                    addr: at,
                    old_len: len,
                    new_len: len,
                    may_move: true,
                    fixed: Some(to),
                    keep_old: None,
                };
                let before = model.0.clone();
                match mm.remap(request) {
                    Ok(_) => {
                        for page in range.clone() {
                            model.0.remove(&page);
                        }
                        for page in range {
                            model.0.insert(to + (page - at), before[&page]);
                        }
                    }
                    // Like Linux it may have made room before it failed.
                    Err(_) => model.0.retain(|&page, _| mm.is_mapped(page..page + PAGE)),
                }
            }
            _ => {
                let space = Arc::new(PretendSpace::default());
                let child = (fork(mm, &space), space, model.clone());
                spaces.push(child);
                if spaces.len() > 4 {
                    spaces.remove(1 + next(3) as usize);
                }
                continue;
            }
        }
        check(mm, space);
        for (mm, _, model) in &spaces {
            model.check(mm, window.clone());
        }
    }
    for (mm, ..) in spaces.drain(..) {
        mm.unmap(base, 128 * PAGE).unwrap();
    }
    assert_eq!(s.memory.used(), 0);
}

#[test]
fn growing_by_mremap_keeps_one_host_mapping() {
    let s = setup();
    let at = s.map(0x10_0000, 4, RW);
    s.mm.copy_out(UserAddr(at), b"x").unwrap();
    let request = RemapRequest {
        addr: at,
        old_len: 4 * PAGE,
        new_len: 8 * PAGE,
        may_move: true,
        fixed: None,
        keep_old: None,
    };
    assert_eq!(s.mm.remap(request), Ok(at));
    assert_eq!(s.mm.state.read().pmas.len(), 1);
    s.map(at + 8 * PAGE, 1, Prot::READ);
    let request = RemapRequest { old_len: 8 * PAGE, new_len: 9 * PAGE, ..request };
    let stay = RemapRequest { may_move: false, ..request };
    assert_eq!(s.mm.remap(stay), Err(linux_abi::Errno::ENOMEM));
    let moved = s.mm.remap(request).unwrap();
    assert_ne!(moved, at);
    let mut byte = [0];
    s.mm.copy_in(UserAddr(moved), &mut byte).unwrap();
    assert_eq!(&byte, b"x");
    assert!(!s.mm.is_mapped(at..at + PAGE));
    check(&s.mm, &s.space);
}

#[test]
fn locking_counts_and_residency_is_seen() {
    let s = setup();
    let at = s.map(0x10_0000, 8, RW);
    assert_eq!(s.mm.in_core(at..at + 8 * PAGE).unwrap(), [0; 8]);
    s.mm.copy_out(UserAddr(at + PAGE), b"x").unwrap();
    assert_eq!(s.mm.in_core(at..at + 4 * PAGE).unwrap(), [0, 1, 0, 0]);
    s.mm.lock(at + 5 * PAGE + 1, 1, true, false).unwrap();
    assert_eq!(s.mm.usage().locked, PAGE);
    assert_eq!(s.mm.in_core(at + 5 * PAGE..at + 6 * PAGE).unwrap(), [1]);
    s.mm.lock_all(true, false, true).unwrap();
    assert_eq!(s.mm.usage().locked, 8 * PAGE);
    s.mm.lock_all(false, false, false).unwrap();
    assert_eq!((s.mm.usage().locked, s.mm.maps(true).len()), (0, 1));
    s.mm.limits().memlock.store(PAGE, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(s.mm.lock(at, 2 * PAGE, true, false), Err(linux_abi::Errno::ENOMEM));
}
