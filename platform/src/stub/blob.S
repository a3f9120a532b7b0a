// The code that runs inside stub processes, beside the guest's own.
//
// Everything here that shares its memory with guest threads keeps its state in
// registers and reads only pages that the guest cannot write: it has no stack. It is
// position independent, has no data that is written, and is copied to {TEXT}.

.pushsection .rodata.lazaret_stub, "a"
.balign 4096
.globl lazaret_stub_start
lazaret_stub_start:

// Runs in the new-born zygote at a temporary place, on a copy of the sentry's memory:
// makes the system calls of a list, then goes to the final place.
// rdi: the list, entries of 8 words (number or -1, six arguments, 0 or a mask which
// makes the entry optional); rsi: where to go.
.globl lazaret_stub_relocate
lazaret_stub_relocate:
    mov rbx, rdi
    mov rbp, rsi
    xor r15d, r15d
1:  mov rax, [rbx]
    cmp rax, -1
    je 3f
    mov rdi, [rbx + 8]
    mov rsi, [rbx + 16]
    mov rdx, [rbx + 24]
    mov r10, [rbx + 32]
    mov r8, [rbx + 40]
    mov r9, [rbx + 48]
    syscall
    cmp rax, -4095
    jb 2f
    cmp qword ptr [rbx + 56], 0
    je lazaret_stub_fail
    or r15, [rbx + 56]
2:  add rbx, 64
    jmp 1b
3:  jmp rbp

// Ends the process; rax: a negated errno.
lazaret_stub_fail:
    mov rdi, rax
    neg rdi
    mov eax, 231                    // exit_group
    syscall
    ud2

// The initial extended state, for xrstor, which may touch as many bytes as the state of
// all its components has: what follows in this page is read, too.
.balign 64
lazaret_stub_xstate:
    .word 0x37f
    .zero 22
    .long 0x1f80
    .zero 484
    .zero 64

// The zygote proper. Its own page is writable: no guest code runs beside it.
.globl lazaret_stub_zygote
lazaret_stub_zygote:
    movabs r12, {ZYGOTE}
    mov eax, 110                    // getppid: a parent that ended before the call which ties us to it
    syscall
    cmp eax, [r12 + {Z_PARENT}]
    jne lazaret_stub_fail
    mov eax, 39                     // getpid
    syscall
    mov [r12 + {Z_SELF}], eax
    mov rdi, [r12 + {Z_UNMAP}]
    mov rsi, [r12 + {Z_UNMAP_LEN}]
    mov eax, 11                     // munmap: the temporary place
    syscall
    mov eax, ~(3 << 17 | 1 << 9)    // no vector register of the sentry may be seen (AMX is off)
    mov edx, -1
    xrstor [rip + lazaret_stub_xstate]
    mov edi, 38                     // prctl(PR_SET_NO_NEW_PRIVS, 1)
    mov esi, 1
    xor edx, edx
    xor r10d, r10d
    xor r8d, r8d
    mov eax, 157
    syscall
    mov edi, 1                      // seccomp(SECCOMP_SET_MODE_FILTER, 0, base filter)
    xor esi, esi
    movabs rdx, {CONST}
    mov eax, 317
    syscall
    test rax, rax
    jnz lazaret_stub_fail
    mov [r12 + {Z_OPTIONAL}], r15
    xor r13d, r13d
    mov dword ptr [r12 + {Z_DONE}], 0
    mov dword ptr [r12 + {Z_READY}], 1
    lea rdi, [r12 + {Z_READY}]
    mov esi, 1                      // futex(FUTEX_WAKE, 1)
    mov edx, 1
    mov eax, 202
    syscall
4:  mov edx, [r12 + {Z_SEQ}]
    cmp edx, r13d
    jne 5f
    lea rdi, [r12 + {Z_SEQ}]        // futex(FUTEX_WAIT, last number)
    xor esi, esi
    mov edx, r13d
    xor r10d, r10d
    mov eax, 202
    syscall
    jmp 4b
5:  mov r13d, edx
    mov rbp, [r12 + {Z_COMMAND_OFFSET}]
    mov rbx, [r12 + {Z_SLOT}]
    mov r14, [r12 + {Z_SLOT_OFFSET}]
    mov edi, {CLONE_PROCESS}
    xor esi, esi
    lea rdx, [r12 + {Z_PIDFD}]
    xor r10d, r10d
    xor r8d, r8d
    mov eax, 56                     // clone
    syscall
    test rax, rax
    jz lazaret_stub_process
    mov [r12 + {Z_RESULT}], rax
    mov [r12 + {Z_DONE}], r13d
    lea rdi, [r12 + {Z_DONE}]
    mov esi, 1
    mov edx, 1
    mov eax, 202
    syscall
    jmp 4b

// A stub process' main thread. rbp: file offset of its command pages, rbx: address of
// its first slot, r14: that slot's file offset.
lazaret_stub_process:
    mov edi, 1                      // prctl(PR_SET_PDEATHSIG, SIGKILL)
    mov esi, 9
    mov eax, 157
    syscall
    mov eax, 110                    // getppid: the zygote may have ended before that
    syscall
    cmp eax, [r12 + {Z_SELF}]
    jne lazaret_stub_fail
    movabs rdi, {COMMAND}           // mmap(commands, read-only)
    mov esi, {COMMAND_SIZE}
    mov edx, 1
    mov r10d, 0x11
    movabs rax, {CONST}
    mov r8d, [rax + {C_CONTROL_FD}]
    mov r9, rbp
    mov eax, 9
    syscall
    cmp rax, -4095
    jae lazaret_stub_fail
    mov rdi, rbx                    // mmap(first slot)
    mov esi, {SLOT_SIZE}
    mov edx, 3
    mov r10d, 0x11
    movabs rax, {CONST}
    mov r8d, [rax + {C_CONTROL_FD}]
    mov r9, r14
    mov eax, 9
    syscall
    cmp rax, -4095
    jae lazaret_stub_fail
    movabs rdi, {ZYGOTE}
    mov esi, 4096
    mov eax, 11                     // munmap
    syscall
    movabs r12, {COMMAND}
    movabs r15, {CONST}
    xor r13d, r13d
    mov edi, {CLONE_THREAD}
    xor esi, esi
    xor edx, edx
    xor r10d, r10d
    xor r8d, r8d
    mov eax, 56
    syscall
    test rax, rax
    jz lazaret_stub_mapper
    js lazaret_stub_fail
6:  mov edx, [r12 + {M_SEQ}]        // the spawner: one guest thread per number
    cmp edx, r13d
    jne 7f
    lea rdi, [r12 + {M_SEQ}]
    xor esi, esi
    mov edx, r13d
    xor r10d, r10d
    mov eax, 202
    syscall
    jmp 6b
7:  mov r13d, edx
    mov rbp, [r12 + {M_SLOT}]
    cmp rbp, rbx
    je 8f
    mov rdi, rbp
    mov esi, {SLOT_SIZE}
    mov edx, 3
    mov r10d, 0x11
    mov r8d, [r15 + {C_CONTROL_FD}]
    mov r9, [r12 + {M_SLOT_OFFSET}]
    mov eax, 9
    syscall
    cmp rax, -4095
    jae 9f
8:  mov edi, {CLONE_THREAD}
    xor esi, esi
    xor edx, edx
    xor r10d, r10d
    xor r8d, r8d
    mov eax, 56
    syscall
    test rax, rax
    jz lazaret_stub_thread
    jns 6b
9:  mov [rbx + {S_SPAWN_ERROR}], eax
    mov [rbx + {S_SPAWN_ERROR_SEQ}], r13d
    jmp 6b

// A guest thread before its first guest instruction. rbp: its slot.
lazaret_stub_thread:
    cmp dword ptr [r15 + {C_PTRACE}], 0
    jne 12f                         // all signals stay blocked until it is traced
    lea rdi, [r12 + {M_ALTSTACK}]   // sigaltstack
    xor esi, esi
    mov eax, 131
    syscall
    test rax, rax
    jnz 11f
    mov edi, 2                      // rt_sigprocmask(SIG_SETMASK, none)
    lea rsi, [rip + lazaret_stub_no_signals]
    xor edx, edx
    mov r10d, 8
    mov eax, 14
    syscall
    mov edi, 1                      // seccomp, with a listener
    mov esi, [r15 + {C_SECCOMP_FLAGS}]
    lea rdx, [r15 + {C_GUEST_FILTER}]
    mov eax, 317
    syscall
    test eax, eax
    js 11f
    inc eax
    mov [rbp + {S_BORN}], eax
    xor eax, eax
    ud2
11: mov [rbp + {S_BORN}], eax
    xor edi, edi
    mov eax, 60                     // exit
    syscall
    ud2
12: mov eax, 186                    // gettid, for the tracer
    syscall
    mov r13d, eax
    mov edi, 1                      // seccomp, without a listener
    xor esi, esi
    lea rdx, [r15 + {C_GUEST_FILTER}]
    mov eax, 317
    syscall
    test eax, eax
    js 11b
    mov [rbp + {S_BORN}], r13d
.globl lazaret_stub_unborn
lazaret_stub_unborn:
13: lea rdi, [r12 + {M_NEVER}]      // waits to be seized
    xor esi, esi
    xor edx, edx
    xor r10d, r10d
    mov eax, 202
    syscall
    jmp 13b
.globl lazaret_stub_unborn_end
lazaret_stub_unborn_end:

// The mapper. rbx: the first slot. Its call with number {DOORBELL} hands over to the
// sentry: rdi commands were done, rsi is the error that stopped them or 0. The answer
// is how many commands wait.
lazaret_stub_mapper:
    cmp dword ptr [r15 + {C_PTRACE}], 0
    jne lazaret_stub_helper
    mov edi, 1
    mov esi, [r15 + {C_SECCOMP_FLAGS}]
    lea rdx, [r15 + {C_MAPPER_FILTER}]
    mov eax, 317
    syscall
    test eax, eax
    js 17f
    inc eax
17: mov [rbx + {S_MAPPER}], eax
    js 18f
    xor edi, edi
    xor esi, esi
14: mov eax, {DOORBELL}
    syscall
    mov r13, rax
    lea rbx, [r12 + 4096]
    xor r14d, r14d
15: cmp r14, r13
    jae 16f
    mov rax, [rbx]
    mov rdi, [rbx + 8]
    mov rsi, [rbx + 16]
    mov rdx, [rbx + 24]
    mov r10, [rbx + 32]
    mov r8, [rbx + 40]
    mov r9, [rbx + 48]
    syscall
    cmp rax, -4095
    jae 19f
    add rbx, 64
    inc r14
    jmp 15b
16: xor eax, eax
19: mov rsi, rax
    mov rdi, r14
    jmp 14b
18: xor edi, edi
    mov eax, 60
    syscall
    ud2

// Changes memory for a tracer. What it answers goes through an eventfd, which guest
// threads cannot write: the error that stopped the batch, or 0, plus one.
lazaret_stub_helper:
    mov eax, 186                    // gettid
    syscall
    mov ebp, eax
    mov edi, 1                      // seccomp, without a listener
    xor esi, esi
    lea rdx, [r15 + {C_MAPPER_FILTER}]
    mov eax, 317
    syscall
    test eax, eax
    js 17b
    mov [rbx + {S_MAPPER}], ebp
    xor r13d, r13d
20: mov edx, [r12 + {M_BATCH_SEQ}]
    cmp edx, r13d
    jne 21f
    lea rdi, [r12 + {M_BATCH_SEQ}]
    xor esi, esi
    xor r10d, r10d
    mov eax, 202
    syscall
    jmp 20b
21: mov r13d, edx
    mov ebp, [r12 + {M_BATCH_LEN}]
    lea rbx, [r12 + 4096]
    xor r14d, r14d
22: xor eax, eax
    cmp r14, rbp
    jae 23f
    mov rax, [rbx]
    mov rdi, [rbx + 8]
    mov rsi, [rbx + 16]
    mov rdx, [rbx + 24]
    mov r10, [rbx + 32]
    mov r8, [rbx + 40]
    mov r9, [rbx + 48]
    syscall
    add rbx, 64
    inc r14
    cmp rax, -4095
    jb 22b
23: neg eax
    cmp eax, {ACK_COUNT}
    jb 24f
    mov eax, 22
24: lea rsi, [r15 + rax * 8 + {C_ACKS}]
    mov edi, [r12 + {M_ACK_FD}]
    mov edx, 8
    mov eax, 1                      // write
    syscall
    jmp 20b

// The handler of all signals of a guest thread, on the stack in its slot. Hands over
// to the sentry, which reads and edits the frame; then returns into it.
.globl lazaret_stub_handler
lazaret_stub_handler:
    rdfsbase r10
    rdgsbase r8
    mov rax, rsp
    and rax, -{SLOT_SIZE}
    mov dword ptr [rax + {S_HANDLER}], 1
    mov eax, {DOORBELL}
    syscall
.globl lazaret_stub_after_doorbell
lazaret_stub_after_doorbell:
    mov rax, rsp
    and rax, -{SLOT_SIZE}
    mov rcx, [rax + {S_FS_BASE}]
    wrfsbase rcx
    mov rcx, [rax + {S_GS_BASE}]
    wrgsbase rcx
    add rsp, 8
    mov eax, 15                     // rt_sigreturn
    syscall
.globl lazaret_stub_after_sigreturn
lazaret_stub_after_sigreturn:
    ud2

// Where rewritten call sites come. rax: the number; rcx: the site's own `syscall`
// instruction, behind which lies the way back; r11 is free, as it is in a system call. GS is the thread's
// slot, unless the guest uses GS itself: then the site makes its system call.
//
// A signal may come at any instruction. From the labels below the sentry tells how far the call
// is, and lets it start again or be complete: up to `answered` and while no reply has come, nothing
// has happened yet.
.balign 64
.globl lazaret_stub_call_refused
lazaret_stub_call_refused:
    jmp rcx
.balign 16
.globl lazaret_stub_call
lazaret_stub_call:
    rdgsbase r11
    shr r11, {SLOTS_SHIFT}
    cmp r11d, {SLOTS_TOP}
    jne lazaret_stub_call_refused
    mov gs:[{S_BACK}], rcx
    mov gs:[{S_NUMBER}], rax
.globl lazaret_stub_call_saved
lazaret_stub_call_saved:
    cmp rax, 255
    ja 30f
    lea r11, [rip + lazaret_stub_answers]
    movzx ecx, byte ptr [r11 + rax]
    test ecx, ecx
    jz 30f
    mov r11, gs:[{S_ANSWERS}]
    cmp dword ptr [r11], 0
    je 30f
    cmp ecx, {ANSWER_CLOCK}
    jae 25f
    mov eax, [r11 + rcx * 4]
.globl lazaret_stub_call_answered
lazaret_stub_call_answered:
    mov rcx, gs:[{S_BACK}]
    add rcx, 2
    jmp rcx
25: jne 27f                         // clock_gettime, for the clocks that the vDSO reads
    cmp edi, 7
    ja 30f
    mov r11d, 0xf3
    bt r11d, edi
    jnc 30f
    movabs r11, {CONST}
    mov r11, [r11 + {C_CLOCK}]
    test r11, r11
    jz 30f
    mov gs:[{S_KEPT}], rdi
    mov gs:[{S_KEPT} + 8], rsi
    mov gs:[{S_KEPT} + 16], rdx
    mov gs:[{S_KEPT} + 24], r8
    mov gs:[{S_KEPT} + 32], r9
    mov gs:[{S_KEPT} + 40], r10
    mov gs:[{S_KEPT} + 48], rsp
    mov gs:[{S_KEPT} + 56], rbx
    mov gs:[{S_KEPT} + 64], rbp
    mov gs:[{S_KEPT} + 72], r12
    mov gs:[{S_KEPT} + 80], r13
    mov gs:[{S_KEPT} + 88], r14
    mov gs:[{S_KEPT} + 96], r15
.globl lazaret_stub_call_clock
lazaret_stub_call_clock:
    rdgsbase rcx
    lea rsp, [rcx + {S_STACK_TOP}]
    lea rsi, [rcx + {S_TIME}]
    call r11
    mov rdi, gs:[{S_KEPT}]
    mov rsi, gs:[{S_KEPT} + 8]
    mov rdx, gs:[{S_KEPT} + 16]
    mov r8, gs:[{S_KEPT} + 24]
    mov r9, gs:[{S_KEPT} + 32]
    mov r10, gs:[{S_KEPT} + 40]
    mov rsp, gs:[{S_KEPT} + 48]
.globl lazaret_stub_call_clock_end
lazaret_stub_call_clock_end:
    test eax, eax
    mov rax, gs:[{S_NUMBER}]
    jnz 30f
    mov rcx, gs:[{S_TIME}]          // a bad address faults here, and the call starts again
    mov r11, gs:[{S_TIME} + 8]
    mov [rsi], rcx
    mov [rsi + 8], r11
    xor eax, eax
    jmp lazaret_stub_call_answered
27: cmp dword ptr [r11], {ANSWERS_ALL}
    jne 30f
    syscall                         // sched_yield, the one call that is made on the host
.globl lazaret_stub_after_yield
lazaret_stub_after_yield:
    xor eax, eax
    jmp lazaret_stub_call_answered

30: mov gs:[{S_REGISTERS} + 0], r15 // handed to the sentry
    mov gs:[{S_REGISTERS} + 8], r14
    mov gs:[{S_REGISTERS} + 16], r13
    mov gs:[{S_REGISTERS} + 24], r12
    mov gs:[{S_REGISTERS} + 32], rbp
    mov gs:[{S_REGISTERS} + 40], rbx
    mov gs:[{S_REGISTERS} + 56], r10
    mov gs:[{S_REGISTERS} + 64], r9
    mov gs:[{S_REGISTERS} + 72], r8
    mov gs:[{S_REGISTERS} + 96], rdx
    mov gs:[{S_REGISTERS} + 104], rsi
    mov gs:[{S_REGISTERS} + 112], rdi
    mov gs:[{S_REGISTERS} + 152], rsp
    rdfsbase rcx
    mov gs:[{S_REGISTERS} + 168], rcx
31: cmp dword ptr gs:[{S_ATTENTIVE}], 0
    je 35f
    mov dword ptr gs:[{S_STATE}], {CALL_POSTED}
    mov ecx, {CALL_LOOKS}
32: mov r11d, gs:[{S_STATE}]
    cmp r11d, {CALL_RUNG}
    ja 40f
    pause
    dec ecx
    jnz 32b
    mov eax, {CALL_POSTED}
    mov ecx, {CALL_RUNG}
    lock cmpxchg gs:[{S_STATE}], ecx
    je 36f
    mov r11d, eax
    jmp 40f
35: mov dword ptr gs:[{S_STATE}], {CALL_RUNG}
36: mov eax, {DOORBELL}
    syscall
.globl lazaret_stub_after_call
lazaret_stub_after_call:
    mov r11d, gs:[{S_STATE}]
40: cmp r11d, {CALL_RESULT}
    jne 41f
    mov rcx, gs:[{S_BACK}]
    mov rax, gs:[{S_REGISTERS} + 80]
    add rcx, 2
    mov dword ptr gs:[{S_STATE}], 0
.globl lazaret_stub_call_left
lazaret_stub_call_left:
    jmp rcx
41: cmp r11d, {CALL_SAVE}
    jne 42f
    movabs r11, {CONST}
    mov eax, [r11 + {C_FEATURES}]
    mov edx, [r11 + {C_FEATURES} + 4]
    xsave64 gs:[{S_XSTATE}]
    mov rdx, gs:[{S_REGISTERS} + 96]
    jmp 31b
42: cmp r11d, {CALL_LOAD}
    jb 45f                          // CALL_FRAME
    cmp r11d, {CALL_LOAD_EXTENDED}
    ja 45f
    jb 43f
    movabs r11, {CONST}
    mov eax, [r11 + {C_FEATURES}]
    mov edx, [r11 + {C_FEATURES} + 4]
    xrstor64 gs:[{S_XSTATE}]
43: mov rcx, gs:[{S_REGISTERS} + 168]
    wrfsbase rcx
    rdgsbase rcx
    lea rsp, [rcx + {S_STACK_TOP}]
    push qword ptr gs:[{S_REGISTERS} + 144]
    popfq
    mov r15, gs:[{S_REGISTERS} + 0]
    mov r14, gs:[{S_REGISTERS} + 8]
    mov r13, gs:[{S_REGISTERS} + 16]
    mov r12, gs:[{S_REGISTERS} + 24]
    mov rbp, gs:[{S_REGISTERS} + 32]
    mov rbx, gs:[{S_REGISTERS} + 40]
    mov r11, gs:[{S_REGISTERS} + 48]
    mov r10, gs:[{S_REGISTERS} + 56]
    mov r9, gs:[{S_REGISTERS} + 64]
    mov r8, gs:[{S_REGISTERS} + 72]
    mov rax, gs:[{S_REGISTERS} + 80]
    mov rcx, gs:[{S_REGISTERS} + 88]
    mov rdx, gs:[{S_REGISTERS} + 96]
    mov rsi, gs:[{S_REGISTERS} + 104]
    mov rdi, gs:[{S_REGISTERS} + 112]
    mov rsp, gs:[{S_REGISTERS} + 152]
    mov dword ptr gs:[{S_STATE}], 0
.globl lazaret_stub_call_loaded
lazaret_stub_call_loaded:
    jmp qword ptr gs:[{S_REGISTERS} + 128]
45: ud2
.globl lazaret_stub_call_end
lazaret_stub_call_end:

// What the stub answers, by number: the word of the slot's answers (getpid, gettid, getuid,
// getgid, geteuid, getegid), or how (clock_gettime, sched_yield).
.balign 64
.globl lazaret_stub_answers
lazaret_stub_answers:
    .byte 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    .byte 0, 0, 0, 0, 0, 0, 0, 0, 15, 0, 0, 0, 0, 0, 0, 0
    .byte 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0
    .byte 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    .byte 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    .byte 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    .byte 0, 0, 0, 0, 0, 0, 3, 0, 4, 0, 0, 5, 6, 0, 0, 0
    .byte 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    .byte 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    .byte 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    .byte 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    .byte 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0
    .byte 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    .byte 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    .byte 0, 0, 0, 0, 14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    .byte 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0

lazaret_stub_no_signals:
    .quad 0

.balign 64
.globl lazaret_stub_end
lazaret_stub_end:
.popsection

// The thread's rseq area, where glibc registered one: where its offset from the
// thread pointer is kept, or null with another C library.
.pushsection .text.lazaret_rseq, "ax"
.weak __rseq_offset
.globl lazaret_rseq_offset
lazaret_rseq_offset:
    mov rax, [rip + __rseq_offset@GOTPCREL]
    ret
.popsection
