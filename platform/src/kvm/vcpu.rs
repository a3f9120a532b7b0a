//! One vCPU: entering guest code on it, and finding out why it stopped.
//!
//! It enters through the stub at ring 0, which returns to ring 3 with IRETQ, and leaves through the
//! stub's OUT. When it is not running, its general registers mean nothing; extended state and
//! segment bases may be some context's.

#![allow(unsafe_code, reason = "KVM_SET_XSAVE takes a structure without a length")]

use std::sync::{
    Arc,
    atomic::{Ordering, fence},
};

use kvm_bindings::{Msrs, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs, kvm_xcrs, kvm_xsave};
use kvm_ioctls::{SyncReg, VcpuExit, VcpuFd};
use linux_abi::Errno;

use super::{
    kick::{KvmKicker, VcpuSign},
    layout::*,
    machine::{Machine, refused},
    saved::Saved,
    stub::{self, Place},
    tables::Command,
    tsc::{self, SleepWatch},
};
use crate::{
    Answers, PlatformError, Registers, XState,
    regs::{CODE_64, DATA},
    vector,
};

const CR0: u64 = 0x8005_0033;
/// SCE, LME, LMA, NXE.
const EFER: u64 = 0xd01;
const MSR_STAR: u32 = 0xc000_0081;
const MSR_LSTAR: u32 = 0xc000_0082;
const MSR_CSTAR: u32 = 0xc000_0083;
const MSR_SYSCALL_MASK: u32 = 0xc000_0084;
/// TF, IF, DF, IOPL, NT, AC.
const SYSCALL_MASK: u64 = 0x4_7700;
const EFLAGS_FIXED: u64 = 2;
const EFLAGS_IF: u64 = 0x200;
/// What programs may set: CF, PF, AF, ZF, SF, TF, DF, OF, NT, AC, ID.
const EFLAGS_USER: u64 = 0x24_4dd5;
/// How often one entry may be interrupted inside the stub before something is wrong.
const STUB_TRIES: u32 = 1000;

/// See the module.
#[derive(Debug)]
pub(super) struct Vcpu {
    pub(super) sign: Arc<VcpuSign>,
    fd: VcpuFd,
    /// Its two pages in the system area.
    pages: u64,
    /// The address space whose tables are loaded, and its generation: nothing older is in the TLB.
    loaded: Option<(u64, u64)>,
    /// Whose extended state and segment bases it has.
    pub(super) live: Option<Arc<Saved>>,
    /// For ring 0, with the segment bases that it has if it is not in ring 0.
    sregs: kvm_sregs,
    in_ring0: bool,
    /// It answers calls itself, and by these.
    is_answering: bool,
    answers: Option<Answers>,
    sleep: SleepWatch,
}

/// Why a vCPU left guest code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// SYSCALL; in 32-bit code when `compat`.
    Syscall { compat: bool },
    /// INT 0x80.
    Int80,
    /// An exception: its vector, error code (or 0) and, for page faults, address.
    Exception { vector: u64, code: u64, addr: u64 },
    /// Somebody wanted it back.
    Interrupted,
    /// The host has no memory where the guest's is to be: a file that became shorter.
    NoMemory,
}

/// What guest code is to run with, besides its registers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) target: Target<'a>,
    /// Flags that are set besides.
    pub(super) flags: u64,
    pub(super) answers: Option<Answers>,
}

/// An address space that can be entered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) id: u64,
    pub(super) root: u64,
    pub(super) generation: &'a std::sync::atomic::AtomicU64,
}

fn segment(selector: u16, kind: u8, ring: u8, is_code: bool) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_: kind,
        present: 1,
        dpl: ring,
        db: u8::from(!is_code),
        s: 1,
        l: u8::from(is_code),
        g: 1,
        ..kvm_segment::default()
    }
}

impl Vcpu {
    pub(super) fn new(machine: &Machine, number: u64) -> Result<Self, PlatformError> {
        let mut fd = machine.create_vcpu(number)?;
        fd.set_cpuid2(machine.cpuid()).map_err(refused("a vCPU's processor features"))?;
        let pages = machine.new_pages(VCPU_PAGES)?;
        let va = system_va(pages);
        let words = machine.page(pages);
        for (word, value) in words.iter().zip(stub::gdt(va + V_TSS)) {
            word.store(value, Ordering::Relaxed);
        }
        let tss = stub::tss(va + V_STACK, va + V_SPECIAL_STACK);
        let tss_words = words.get((V_TSS / 8) as usize..).unwrap_or_default();
        for (word, pair) in tss_words.iter().zip(tss.chunks_exact(2)) {
            let [low, high] = [pair[0], pair[1]].map(u64::from);
            word.store(low | high << 32, Ordering::Relaxed);
        }
        let mut sregs = fd.get_sregs().map_err(refused("a vCPU's registers"))?;
        sregs.cr0 = CR0;
        sregs.cr3 = SYSTEM_GPA + FIRST_ROOT;
        sregs.cr4 = machine.features.cr4;
        sregs.efer = EFER;
        sregs.gdt.base = va + V_GDT;
        sregs.gdt.limit = 79;
        sregs.idt.base = SYSTEM_VA + IDT;
        sregs.idt.limit = 0xfff;
        sregs.tr = kvm_segment {
            base: va + V_TSS,
            limit: TSS_LIMIT as u32,
            selector: TASK,
            type_: 11,
            present: 1,
            ..kvm_segment::default()
        };
        sregs.cs = segment(KERNEL_CODE, 11, 0, true);
        sregs.ss = segment(KERNEL_DATA, 3, 0, false);
        let data = segment(0, 3, 3, false);
        (sregs.ds, sregs.es, sregs.fs, sregs.gs) = (data, data, data, data);
        fd.set_sregs(&sregs).map_err(refused("a vCPU's control registers"))?;
        let mut xcrs = kvm_xcrs { nr_xcrs: 1, ..kvm_xcrs::default() };
        xcrs.xcrs[0].value = machine.features.xcr0;
        fd.set_xcrs(&xcrs).map_err(refused("a vCPU's XCR0"))?;
        let star = u64::from(USER_CODE_32) << 48 | u64::from(KERNEL_CODE) << 32;
        let msrs = [
            (MSR_STAR, star),
            (MSR_LSTAR, stub::SYSCALL_VA),
            (MSR_CSTAR, stub::COMPAT_VA),
            (MSR_SYSCALL_MASK, SYSCALL_MASK),
        ];
        set_msrs(&fd, &msrs)?;
        fd.set_sync_valid_reg(SyncReg::Register);
        let sign = Arc::new(VcpuSign::new(number, &mut fd));
        let mut vcpu = Self {
            sign,
            fd,
            pages,
            loaded: None,
            live: None,
            sregs,
            in_ring0: true,
            is_answering: false,
            answers: None,
            sleep: SleepWatch::default(),
        };
        if machine.has_host_tsc.load(Ordering::Relaxed) {
            vcpu.use_host_tsc()?;
        }
        vcpu.answer_calls(machine)?;
        Ok(vcpu)
    }

    /// Lets it answer calls without leaving, on a host where SYSCALL comes to ring 0.
    pub(super) fn answer_calls(&mut self, machine: &Machine) -> Result<(), PlatformError> {
        let is_possible = !machine.syscall_faults.load(Ordering::Relaxed) && !self.is_answering;
        // The one without a number never runs guest code.
        let entry = self.sign.number.checked_sub(1).filter(|entry| *entry < ENTRIES_MAX);
        let Some(entry) = entry.filter(|_| is_possible) else { return Ok(()) };
        machine.add_entry(entry, self.pages);
        set_msrs(&self.fd, &[(MSR_LSTAR, stub::answering_va(entry))])?;
        self.is_answering = true;
        Ok(())
    }

    /// Lets it read the host's time-stamp counter.
    pub(super) fn use_host_tsc(&mut self) -> Result<(), PlatformError> {
        self.sleep.has_slept();
        tsc::use_hosts(&self.fd)
            .map_err(|errno| PlatformError::Host { what: "a vCPU's time-stamp counter", errno })
    }

    /// Runs guest code with these registers until it stops, and fetches them. FS and GS bases are left
    /// alone. After an error it cannot be used any more.
    pub(super) fn run(
        &mut self,
        machine: &Machine,
        entry: Entry<'_>,
        kicker: &KvmKicker,
        regs: &mut Registers,
    ) -> Result<(Event, bool), PlatformError> {
        let target = entry.target;
        self.sign.enter();
        self.sign.space.store(target.id, Ordering::SeqCst);
        // Whoever changes the tables after this sees that they may be in use here.
        let generation = target.generation.load(Ordering::SeqCst);
        if !kicker.enter() {
            self.sign.leave();
            return Ok((Event::Interrupted, true));
        }
        let event = self
            .enter_ring0()
            .and_then(|()| self.keep_time(machine))
            .map(|()| self.load(machine, entry, generation, regs))
            .and_then(|()| self.enter(machine, regs));
        self.sign.leave();
        let kicked = kicker.leave();
        Ok((event?, kicked))
    }

    fn keep_time(&mut self, machine: &Machine) -> Result<(), PlatformError> {
        if machine.has_host_tsc.load(Ordering::Relaxed) && self.sleep.has_slept() {
            self.use_host_tsc()?;
        }
        Ok(())
    }

    /// Puts the answers where the stub finds them.
    fn set_answers(&mut self, machine: &Machine, answers: Option<Answers>) {
        if self.answers == answers || !self.is_answering {
            return;
        }
        self.answers = answers;
        let all = answers.map_or([0; 6], |answers| answers.ids);
        let words =
            [u32::from(answers.is_some()), all[0], all[1], all[2], all[3], all[4], all[5], 0];
        let page = machine.page(self.pages);
        let pairs = words.chunks_exact(2).map(|pair| u64::from(pair[0]) | u64::from(pair[1]) << 32);
        for (word, pair) in page.iter().skip((V_ANSWERS / 8) as usize).zip(pairs) {
            word.store(pair, Ordering::Relaxed);
        }
    }

    /// Prepares the return to ring 3.
    fn load(&mut self, machine: &Machine, entry: Entry<'_>, generation: u64, regs: &Registers) {
        let Entry { target, flags, answers } = entry;
        self.set_answers(machine, answers);
        let eflags = (regs.eflags | flags) & EFLAGS_USER | EFLAGS_FIXED | EFLAGS_IF;
        let code = if regs.cs as u16 == USER_CODE_32 { regs.cs } else { CODE_64 };
        let frame = [regs.rax, regs.rip, code, eflags, regs.rsp, DATA];
        let top = frame.len();
        for (word, value) in self.frame(machine, V_STACK, top).iter().zip(frame) {
            word.store(value, Ordering::Relaxed);
        }
        let stack = system_va(self.pages) + V_STACK - 8 * top as u64;
        let wanted = Some((target.id, generation));
        let (rip, rax, rsp) = if self.loaded == wanted {
            (stub::RESUME_VA, regs.rax, stack + 8)
        } else {
            (stub::RESUME_LOAD_VA, target.root, stack)
        };
        self.loaded = wanted;
        self.set(&kvm_regs {
            rax,
            rbx: regs.rbx,
            rcx: regs.rcx,
            rdx: regs.rdx,
            rsi: regs.rsi,
            rdi: regs.rdi,
            rsp,
            rbp: regs.rbp,
            r8: regs.r8,
            r9: regs.r9,
            r10: regs.r10,
            r11: regs.r11,
            r12: regs.r12,
            r13: regs.r13,
            r14: regs.r14,
            r15: regs.r15,
            rip,
            rflags: EFLAGS_FIXED,
        });
    }

    fn set(&mut self, regs: &kvm_regs) {
        self.fd.sync_regs_mut().regs = *regs;
        self.fd.set_sync_dirty_reg(SyncReg::Register);
        // The frame must be there before the stub reads it.
        fence(Ordering::SeqCst);
    }

    /// The last `count` words of the stack that ends at `end`.
    fn frame<'a>(
        &self,
        machine: &'a Machine,
        end: u64,
        count: usize,
    ) -> &'a [std::sync::atomic::AtomicU64] {
        let page = (end - 1) & !(PAGE - 1);
        let last = ((end - page) / 8) as usize;
        machine.page(self.pages + page).get(last - count..last).unwrap_or_default()
    }

    fn fail(&self, what: String) -> PlatformError {
        PlatformError::StubDied(format!("vCPU {}: {what}", self.sign.number))
    }

    fn enter(&mut self, machine: &Machine, regs: &mut Registers) -> Result<Event, PlatformError> {
        for _ in 0..STUB_TRIES {
            let exit = match self.fd.run() {
                Ok(VcpuExit::IoOut(port, _)) => Ok(port),
                Ok(VcpuExit::MemoryFault { .. }) => Err(Errno::EFAULT),
                Ok(other) => {
                    let what = format!("stopped without a reason of ours: {other:?}");
                    return Err(self.fail(what));
                }
                Err(error) => Err(Errno::from_raw(error.errno())),
            };
            self.sign.exits.fetch_add(1, Ordering::SeqCst);
            match exit {
                Ok(port) => return self.left(machine, port, regs),
                Err(errno @ (Errno::EINTR | Errno::EFAULT)) => {
                    if let Some(event) = self.stopped(regs)? {
                        let no_memory = errno == Errno::EFAULT;
                        return Ok(if no_memory { Event::NoMemory } else { event });
                    }
                    if errno == Errno::EFAULT {
                        return Err(self.fail("no memory for the stub".into()));
                    }
                    self.sign.go_on();
                }
                Err(Errno::EAGAIN) => {}
                Err(errno) => return Err(self.fail(format!("cannot run: {errno}"))),
            }
        }
        Err(self.fail("does not come out of the stub".into()))
    }

    /// After an interruption: what it comes to, with the guest's registers (again) in `regs`; `None` when
    /// the stub is about to leave by itself.
    fn stopped(&mut self, regs: &mut Registers) -> Result<Option<Event>, PlatformError> {
        let sregs = self.fd.get_sregs().map_err(refused("a vCPU's registers"))?;
        let events = self.fd.get_vcpu_events().map_err(refused("a vCPU's events"))?;
        let now = self.fd.sync_regs_mut().regs;
        let (place, in_stub) = (stub::place(now.rip), sregs.cs.selector & 3 == 0);
        if place == Place::Resuming && in_stub {
            // The guest has not run: its registers are as they were.
            self.loaded = None;
            return Ok(Some(Event::Interrupted));
        }
        let in_flight = events.exception.injected | events.exception.pending != 0;
        // In ring 3 it is about to fault there.
        if in_flight || place == Place::Leaving || place != Place::Elsewhere && !in_stub {
            return Ok(None);
        }
        match place {
            Place::Called => return Ok(Some(called(&now, false, regs))),
            Place::Answered => {
                called(&now, false, regs);
                regs.orig_rax = u64::MAX;
                return Ok(Some(Event::Interrupted));
            }
            _ if in_stub => return Err(self.fail(format!("is in ring 0 at {:#x}", now.rip))),
            _ => {}
        }
        self.in_ring0 = false;
        (self.sregs.fs.base, self.sregs.gs.base) = (sregs.fs.base, sregs.gs.base);
        fetch(&now, regs);
        regs.orig_rax = u64::MAX;
        regs.rip = now.rip;
        regs.eflags = now.rflags;
        regs.rsp = now.rsp;
        regs.cs = sregs.cs.selector.into();
        regs.ss = sregs.ss.selector.into();
        Ok(Some(Event::Interrupted))
    }

    /// After the stub's OUT.
    fn left(
        &mut self,
        machine: &Machine,
        port: u16,
        regs: &mut Registers,
    ) -> Result<Event, PlatformError> {
        let now = self.fd.sync_regs_mut().regs;
        fetch(&now, regs);
        match port {
            stub::PORT_SYSCALL | stub::PORT_COMPAT => {
                Ok(called(&now, port == stub::PORT_COMPAT, regs))
            }
            stub::PORT_INT80 => {
                self.fetch_frame(machine, V_STACK, false, regs)?;
                regs.orig_rax = now.rax;
                Ok(Event::Int80)
            }
            _ => {
                let vector = u64::from(port.wrapping_sub(stub::PORT_VECTOR));
                if vector >= vector::COUNT {
                    return Err(self.fail(format!("an unexpected way out: {port:#x}")));
                }
                let (special, has_code) = stub::frame_kind(vector);
                let end = if special { V_SPECIAL_STACK } else { V_STACK };
                let code = self.fetch_frame(machine, end, has_code, regs)?;
                let mut addr = 0;
                if vector == vector::PAGE_FAULT {
                    addr = now.rax;
                    let saved = self.frame(machine, V_STACK, 7).first();
                    regs.rax = saved.map_or(0, |word| word.load(Ordering::Relaxed));
                }
                regs.orig_rax = u64::MAX;
                Ok(Event::Exception { vector, code, addr })
            }
        }
    }

    /// Reads the frame that the processor pushed; returns the error code.
    fn fetch_frame(
        &self,
        machine: &Machine,
        end: u64,
        has_code: bool,
        regs: &mut Registers,
    ) -> Result<u64, PlatformError> {
        let words = self.frame(machine, end, 6);
        let at = |n: usize| words.get(n).map_or(0, |word| word.load(Ordering::Acquire));
        (regs.rip, regs.cs, regs.eflags, regs.rsp, regs.ss) = (at(1), at(2), at(3), at(4), at(5));
        if regs.cs & 3 == 0 {
            return Err(self.fail(format!("an exception in ring 0 at {:#x}", regs.rip)));
        }
        Ok(if has_code { at(0) } else { 0 })
    }

    /// Clears page-table entries.
    pub(super) fn clear(
        &mut self,
        machine: &Machine,
        commands: &[Command],
    ) -> Result<(), PlatformError> {
        self.enter_ring0()?;
        let list = machine.page(self.pages).get((V_COMMANDS / 8) as usize..).unwrap_or_default();
        for batch in commands.chunks(COMMANDS_MAX) {
            for (words, (address, count)) in list.chunks_exact(2).zip(batch) {
                words[0].store(*address, Ordering::Relaxed);
                words[1].store(*count, Ordering::Relaxed);
            }
            self.set(&kvm_regs {
                rip: stub::CLEAR_VA,
                rsi: system_va(self.pages) + V_COMMANDS,
                rdx: batch.len() as u64,
                rsp: system_va(self.pages) + V_STACK,
                rflags: EFLAGS_FIXED,
                ..kvm_regs::default()
            });
            self.sign.enter();
            let cleared = self.enter_clear();
            self.sign.leave();
            cleared?;
        }
        // Whatever it has loaded may be what was cleared.
        self.loaded = None;
        Ok(())
    }

    fn enter_clear(&mut self) -> Result<(), PlatformError> {
        for _ in 0..STUB_TRIES {
            match self.fd.run() {
                Ok(VcpuExit::IoOut(stub::PORT_CLEARED, _)) => return Ok(()),
                Ok(other) => {
                    let what = format!("stopped while it cleared entries: {other:?}");
                    return Err(self.fail(what));
                }
                Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                    self.sign.go_on();
                }
                Err(error) => {
                    return Err(self.fail(format!("cannot clear entries: {error}")));
                }
            }
        }
        Err(self.fail("does not finish clearing entries".into()))
    }

    /// FS and GS base.
    pub(super) fn bases(&self) -> Result<(u64, u64), PlatformError> {
        let sregs = self.fd.get_sregs().map_err(refused("a vCPU's registers"))?;
        Ok((sregs.fs.base, sregs.gs.base))
    }

    pub(super) fn set_bases(&mut self, (fs, gs): (u64, u64)) -> Result<(), PlatformError> {
        // A base that is not a program's would keep the vCPU from being entered.
        let user = |base: u64| if base >> 47 == 0 { base } else { 0 };
        (self.sregs.fs.base, self.sregs.gs.base) = (user(fs), user(gs));
        self.in_ring0 = false;
        self.enter_ring0()
    }

    /// Loads the control registers for ring 0, with the first root, unless it is there.
    fn enter_ring0(&mut self) -> Result<(), PlatformError> {
        if !self.in_ring0 {
            self.fd.set_sregs(&self.sregs).map_err(refused("a vCPU's ring 0"))?;
            self.in_ring0 = true;
            self.loaded = None;
        }
        Ok(())
    }

    pub(super) fn xstate(&self, machine: &Machine) -> Result<XState, PlatformError> {
        let area = self.fd.get_xsave().map_err(refused("a vCPU's extended state"))?;
        let mut bytes: Vec<u8> = area.region.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.resize(machine.format.len, 0);
        machine.format.finish(&mut bytes);
        Ok(XState { bytes })
    }

    pub(super) fn set_xstate(
        &mut self,
        machine: &Machine,
        state: XState,
    ) -> Result<(), PlatformError> {
        let mut bytes = state.bytes;
        bytes.resize(machine.format.len, 0);
        machine.format.finish(&mut bytes);
        // Without the last magic.
        bytes.truncate(machine.format.len - 4);
        let mut area = kvm_xsave::default();
        for (word, bytes) in area.region.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_le_bytes(bytes.try_into().unwrap_or_default());
        }
        // SAFETY: no component is enabled that does not lie in the structure's 4096 bytes.
        unsafe { self.fd.set_xsave(&area) }.map_err(refused("a vCPU's extended state"))
    }
}

fn set_msrs(fd: &VcpuFd, values: &[(u32, u64)]) -> Result<(), PlatformError> {
    let entries: Vec<_> = values
        .iter()
        .map(|(index, data)| kvm_msr_entry {
            index: *index,
            data: *data,
            ..kvm_msr_entry::default()
        })
        .collect();
    let msrs = Msrs::from_entries(&entries)
        .map_err(|_| PlatformError::Host { what: "a table of registers", errno: Errno::ENOMEM })?;
    let set = fd.set_msrs(&msrs).map_err(refused("a vCPU's system-call registers"))?;
    if set == entries.len() {
        return Ok(());
    }
    Err(PlatformError::Unsupported("this host's KVM does not let vCPUs make system calls".into()))
}

/// What a SYSCALL made of the registers.
fn called(now: &kvm_regs, compat: bool, regs: &mut Registers) -> Event {
    fetch(now, regs);
    regs.rip = now.rcx;
    regs.eflags = now.r11;
    regs.rsp = now.rsp;
    regs.cs = if compat { USER_CODE_32.into() } else { CODE_64 };
    regs.ss = DATA;
    regs.orig_rax = now.rax;
    Event::Syscall { compat }
}

/// The registers that the stub leaves alone.
fn fetch(now: &kvm_regs, regs: &mut Registers) {
    (regs.rax, regs.rbx, regs.rcx, regs.rdx) = (now.rax, now.rbx, now.rcx, now.rdx);
    (regs.rsi, regs.rdi, regs.rbp) = (now.rsi, now.rdi, now.rbp);
    (regs.r8, regs.r9, regs.r10, regs.r11) = (now.r8, now.r9, now.r10, now.r11);
    (regs.r12, regs.r13, regs.r14, regs.r15) = (now.r12, now.r13, now.r14, now.r15);
}
