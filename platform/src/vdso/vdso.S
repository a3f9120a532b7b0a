// The vDSO that guest programs see. Its functions go on in the host's vDSO, whose
// addresses in stub processes the platform writes into the table below when it makes
// the image; where the host has none (zero), they make the system call.

#define FUNCTION(name, slot, number)        \
    .globl __vdso_##name                   ;\
    .type __vdso_##name, @function         ;\
    .weak name                             ;\
    .type name, @function                  ;\
    .balign 16                             ;\
__vdso_##name:                             ;\
name:                                      ;\
    .cfi_startproc                         ;\
    endbr64                                ;\
    movq targets+8*slot(%rip), %rax        ;\
    testq %rax, %rax                       ;\
    jz 1f                                  ;\
    jmp *%rax                              ;\
1:  movl $number, %eax                     ;\
    syscall                                ;\
    ret                                    ;\
    .cfi_endproc                           ;\
    .size __vdso_##name, . - __vdso_##name ;\
    .size name, . - name

    // In the order of `FUNCTIONS` in vdso.rs, at the place which vdso.lds gives it.
    .section .targets, "a", @progbits
    .balign 8
targets:
    .zero 5 * 8

    .text
    // Exactly these bytes, and no unwind information: unwinders know a signal frame by them.
    .type __kernel_rt_sigreturn, @function
    .balign 16
    nop
__kernel_rt_sigreturn:
    movq $15, %rax
    syscall
    .size __kernel_rt_sigreturn, . - __kernel_rt_sigreturn

    FUNCTION(clock_gettime, 0, 228)
    FUNCTION(gettimeofday, 1, 96)
    FUNCTION(time, 2, 201)
    FUNCTION(clock_getres, 3, 229)
    FUNCTION(getcpu, 4, 309)

    // The Linux version, for C libraries that want to know it from here.
    .section .note.Linux, "a", @note
    .balign 4
    .long 6, 4, 0
    .asciz "Linux"
    .balign 4
    .long 0x060c00

    .section .note.GNU-stack, "", @progbits
