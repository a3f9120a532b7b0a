//! Where things are in a stub process, in the control file, and inside their pages.
//!
//! Guest addresses end at [`USER_END`]; above lies what is ours. The guest can read and
//! run it, and write only its slots.

/// One past the last guest address.
pub(crate) const USER_END: u64 = 0x7fff_0000_0000;

/// Slots: one per guest thread, at a place that follows from its number. All slots of all
/// processes fill one aligned gigabyte, so that one comparison tells whether an address is in
/// a slot. A guest thread's GS base is its slot.
pub(crate) const SLOTS: u64 = 0x7fff_4000_0000;
pub(crate) const SLOTS_SHIFT: u64 = 30;
/// Bytes of a slot: the header, then the signal stack. A power of two, and slots are
/// aligned to it. The largest frame (AVX-512 and AMX state) is 12 KiB.
pub(crate) const SLOT_SIZE: u64 = 32 << 10;
/// How many slots there are: guest threads in the whole sandbox.
pub(crate) const SLOT_COUNT: u32 = 32 << 10;

/// Answers: for each slot, what the stub may answer by itself; read-only, the same in all
/// processes.
pub(crate) const ANSWERS: u64 = 0x7fff_e000_0000;
/// Bytes of a slot's answers: a word that is not zero while they hold, then one word for
/// each call.
pub(crate) const ANSWERS_SIZE: u64 = 64;

/// The blob's code.
pub(crate) const TEXT: u64 = 0x7fff_f000_0000;
/// Constants, read-only, the same in all processes.
pub(crate) const CONST: u64 = 0x7fff_f001_0000;
pub(crate) const CONST_SIZE: u64 = 4096;
/// The zygote's own page; absent in stub processes.
pub(crate) const ZYGOTE: u64 = 0x7fff_f002_0000;
/// Command pages, read-only: one of words, one of the mapper's commands.
pub(crate) const COMMAND: u64 = 0x7fff_f003_0000;
pub(crate) const COMMAND_SIZE: u64 = 2 * 4096;
/// How many stub processes there can be.
pub(crate) const PROCESS_COUNT: u32 = 32 << 10;
/// The host's vvar pages and vDSO, in the order in which the host laid them out.
pub(crate) const HOST_VDSO: u64 = 0x7fff_f010_0000;

/// Offsets in the control file.
pub(crate) const CONST_OFFSET: u64 = 0;
pub(crate) const ZYGOTE_OFFSET: u64 = CONST_OFFSET + CONST_SIZE;
pub(crate) const COMMANDS_OFFSET: u64 = 1 << 20;
pub(crate) const SLOTS_OFFSET: u64 = 1 << 30;
pub(crate) const ANSWERS_OFFSET: u64 = SLOTS_OFFSET + SLOT_SIZE * SLOT_COUNT as u64;
pub(crate) const ANSWERS_LEN: u64 = ANSWERS_SIZE * SLOT_COUNT as u64;
pub(crate) const CONTROL_SIZE: u64 = ANSWERS_OFFSET + ANSWERS_LEN;

/// The constants: `sock_fprog`s, then a `sigaction`, then words.
pub(crate) const C_BASE_FILTER: u64 = 0;
pub(crate) const C_MAPPER_FILTER: u64 = 0x10;
pub(crate) const C_GUEST_FILTER: u64 = 0x20;
pub(crate) const C_SIGACTION: u64 = 0x40;
pub(crate) const C_CONTROL_FD: u64 = 0x60;
pub(crate) const C_SECCOMP_FLAGS: u64 = 0x64;
pub(crate) const C_PTRACE: u64 = 0x68;
/// Where the host's `clock_gettime` is in its vDSO; 0: nowhere.
pub(crate) const C_CLOCK: u64 = 0x70;
/// The components of extended state that guests have.
pub(crate) const C_FEATURES: u64 = 0x78;
pub(crate) const C_SIGACTION_IGNORE: u64 = 0x80;
pub(crate) const C_FILTER_CODE: u64 = 0x100;
/// What the helper writes to its eventfd: for each error number, that plus one.
pub(crate) const C_ACKS: u64 = 0xa00;
/// Error numbers are smaller (`include/uapi/asm-generic/errno.h`).
pub(crate) const ACK_COUNT: u64 = 134;

/// Words of the zygote's page. `SEQ` counts requests, `DONE` those answered.
pub(crate) const Z_SEQ: u64 = 0;
pub(crate) const Z_DONE: u64 = 4;
pub(crate) const Z_READY: u64 = 8;
pub(crate) const Z_PIDFD: u64 = 12;
pub(crate) const Z_COMMAND_OFFSET: u64 = 16;
pub(crate) const Z_SLOT: u64 = 24;
pub(crate) const Z_SLOT_OFFSET: u64 = 32;
pub(crate) const Z_RESULT: u64 = 40;
pub(crate) const Z_OPTIONAL: u64 = 48;
pub(crate) const Z_UNMAP: u64 = 56;
pub(crate) const Z_UNMAP_LEN: u64 = 64;
/// Process ids, as their children see them: the sentry's, and the zygote's own.
pub(crate) const Z_PARENT: u64 = 72;
pub(crate) const Z_SELF: u64 = 76;

/// Words of a command page. `SEQ` counts guest threads asked for.
pub(crate) const M_SEQ: u64 = 0;
/// Always zero; a thread waits on it for ever.
pub(crate) const M_NEVER: u64 = 4;
pub(crate) const M_SLOT: u64 = 8;
pub(crate) const M_SLOT_OFFSET: u64 = 16;
/// `stack_t` of the thread asked for.
pub(crate) const M_ALTSTACK: u64 = 24;
/// For the helper that a tracer uses: counts batches; how many commands; its eventfd.
pub(crate) const M_BATCH_SEQ: u64 = 48;
pub(crate) const M_BATCH_LEN: u64 = 52;
pub(crate) const M_ACK_FD: u64 = 56;
/// The mapper's commands are in the second page: number, six arguments, a spare word.
pub(crate) const COMMAND_LEN: u64 = 64;
pub(crate) const COMMANDS_MAX: usize = 64;

/// Words of a slot. The guest can write all of them.
/// Listener descriptor plus one, or the thread's id for a tracer; negative: an errno.
pub(crate) const S_BORN: u64 = 0;
/// In a process' first slot only: the mapper's listener plus one, or an errno; with a
/// tracer, the helper's thread id.
pub(crate) const S_MAPPER: u64 = 4;
/// In a process' first slot only: why a guest thread could not be made, and which.
pub(crate) const S_SPAWN_ERROR: u64 = 8;
pub(crate) const S_SPAWN_ERROR_SEQ: u64 = 12;
/// Segment bases which the handler loads before it returns into the frame.
pub(crate) const S_FS_BASE: u64 = 16;
pub(crate) const S_GS_BASE: u64 = 24;
/// How far a system call from a rewritten site is: one of the `CALL_*` states.
pub(crate) const S_STATE: u64 = 64;
/// Not zero once the thread is in its handler, which is about to ring the bell.
pub(crate) const S_HANDLER: u64 = 68;
/// Not zero while the sentry thread looks at `S_STATE`: then a call need not ring the bell.
pub(crate) const S_ATTENTIVE: u64 = 128;
/// Where a call came from (its site's own `syscall` instruction), and its number.
pub(crate) const S_BACK: u64 = 192;
pub(crate) const S_NUMBER: u64 = 200;
/// The address of this slot's answers.
pub(crate) const S_ANSWERS: u64 = 208;
/// What the host's vDSO may change while the stub calls it: rdi, rsi, rdx, r8, r9, r10, rsp,
/// and, until it returns, rbx, rbp, r12 to r15; and the time it says.
pub(crate) const S_KEPT: u64 = 640;
pub(crate) const S_TIME: u64 = 768;
/// All registers of a call, laid out as [`crate::Registers`].
pub(crate) const S_REGISTERS: u64 = 384;
/// A small stack for what the stub calls, from here up to `S_STACK_TOP`.
pub(crate) const S_STACK: u64 = 1024;
pub(crate) const S_STACK_TOP: u64 = 4096;
/// Extended state, when the sentry asks for it.
pub(crate) const S_XSTATE: u64 = 4096;
pub(crate) const SLOT_HEADER: u64 = 16 << 10;

/// `S_STATE`: nothing is going on;
pub(crate) const CALL_NONE: u32 = 0;
/// the thread made a call, and looks for the reply;
pub(crate) const CALL_POSTED: u32 = 1;
/// the thread made a call, and rings the bell;
pub(crate) const CALL_RUNG: u32 = 2;
/// reply: the result is in `rax`, nothing else changes;
pub(crate) const CALL_RESULT: u32 = 3;
/// reply: save the extended state, and post the call again;
pub(crate) const CALL_SAVE: u32 = 4;
/// reply: enter the handler;
pub(crate) const CALL_FRAME: u32 = 5;
/// reply: load all registers; also the extended state.
pub(crate) const CALL_LOAD: u32 = 6;
pub(crate) const CALL_LOAD_EXTENDED: u32 = 7;

/// How often a thread looks for a reply before it rings the bell: some 180 microseconds, in which the mapper can
/// change its memory and the file server answer most requests. Only while it is looked after.
pub(crate) const CALL_LOOKS: u32 = 1000;

/// How the stub answers a call: by the words of the answers from 1 on, or from this on by code:
/// the clock, then `sched_yield`.
pub(crate) const ANSWER_CLOCK: u8 = 14;

/// The first word of a slot's answers: 0 for none; all; all but `sched_yield`.
pub(crate) const ANSWERS_ALL: u32 = 1;
pub(crate) const ANSWERS_BUT_YIELD: u32 = 2;

/// The number of the call by which stub code hands over to the sentry.
pub(crate) const DOORBELL: u32 = 0x4c5a_0000;

/// The signal that makes a guest thread enter its handler.
pub(crate) const KICK_SIGNAL: i32 = libc::SIGUSR2;

/// What a guest thread's handler is for.
pub(crate) const HANDLED_SIGNALS: [i32; 7] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGSYS,
    KICK_SIGNAL,
];

/// clone(2) flags: a process with the same descriptors; a thread.
pub(crate) const CLONE_PROCESS: u64 =
    (libc::CLONE_FILES | libc::CLONE_PIDFD | libc::SIGCHLD) as u64;
pub(crate) const CLONE_THREAD: u64 = (libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM) as u64;
