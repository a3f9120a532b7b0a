/* Every way into a kernel that the processor has. Each asks for something that would be seen on the host. */
#include "attack.h"

static char path[PATH_MAX];

static const char *mark(void)
{
	snprintf(path, sizeof path, "%s/broken-in", hidden());
	return path;
}

/* A copy of what is needed below 4 GiB, for 32-bit calls. */
static char *low(void)
{
	char *page = mmap((void *)0x10000000, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	expect(page != MAP_FAILED);
	strcpy(page + 512, mark());
	return page;
}

CASE(int_0x80_reaches_no_host_kernel)
{
	char *page = low();
	DOOMED(({ long result; /* mkdir */
		  __asm__ volatile("int $0x80" : "=a"(result) : "a"(39L), "b"(page + 512), "c"(0777L) : "memory"); }));
	DOOMED(({ long result; /* kill */
		  __asm__ volatile("int $0x80" : "=a"(result) : "a"(37L), "b"((long)sentinel()), "c"(9L) : "memory"); }));
	alive();
}

CASE(sysenter_reaches_no_host_kernel)
{
	char *page = low();
	DOOMED(({ __asm__ volatile("mov %%rsp, %%rbp; sysenter" : : "a"(39L), "b"(page + 512), "c"(0777L) : "memory"); }));
	alive();
}

CASE(thirty_two_bit_code_reaches_no_host_kernel)
{
	char *page = low();
	/* mov $39,%eax; mov $path,%ebx; mov $0777,%ecx; int $0x80; then sysenter; hlt */
	unsigned char code[] = {0xb8, 39, 0, 0, 0, 0xbb, 0, 2, 0, 0x10, 0xb9, 0xff, 1, 0, 0, 0xcd, 0x80,
				0xb8, 39, 0, 0, 0, 0x89, 0xe5, 0x0f, 0x34, 0xf4};
	memcpy(page, code, sizeof code);
	struct { unsigned offset; unsigned short selector; } __attribute__((packed)) far = {0x10000000, 0x23};
	DOOMED(({ __asm__ volatile("mov $0x10000f00, %%rsp; ljmp *%0" : : "m"(far) : "memory"); }));
	far.selector = 0x33;
	DOOMED(({ __asm__ volatile("ljmp *%0" : : "m"(far) : "memory"); }));
	alive();
}

CASE(x32_numbers_reach_no_host_kernel)
{
	static const long numbers[] = {83 /* mkdir */, 62 /* kill */, 520 /* x32 execve */, 2 /* open */};
	for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++)
		DOOMED(({ syscall(0x40000000 | numbers[i], i == 1 ? (long)sentinel() : (long)mark(), i == 1 ? 9 : 0102, 0777); }));
	for (long high = 1; high; high <<= 1) /* numbers whose upper bits are set */
		if (high > 1024)
			DOOMED(({ syscall(high | 83, mark(), 0777); }));
	alive();
}

CASE(the_vsyscall_page_reaches_no_host_kernel)
{
	for (int offset = 0; offset < 0xc00; offset += 0x400)
		DOOMED(({ ((long (*)(const char *, long))(0xffffffffff600000UL + offset))(mark(), 0777); }));
	alive();
}

CASE(call_gates_and_privileged_instructions_fault)
{
	for (unsigned selector = 0; selector < 0x100; selector += 8) {
		struct { unsigned offset; unsigned short selector; } __attribute__((packed)) far = {0x10000000, selector | 3};
		DOOMED(({ __asm__ volatile("lcall *%0" : : "m"(far) : "memory"); }));
	}
	expect(DOOMED(({ __asm__ volatile("hlt"); })) == SIGSEGV);
	expect(DOOMED(({ __asm__ volatile("mov %%cr0, %%rax" : : : "rax"); })) == SIGSEGV);
	expect(DOOMED(({ __asm__ volatile("cli"); })) == SIGSEGV);
	expect(DOOMED(({ __asm__ volatile("mov $0x60, %%dx; in %%dx, %%al" : : : "rax", "rdx"); })) == SIGSEGV);
	expect(DOOMED(({ __asm__ volatile("wrmsr"); })) == SIGSEGV);
	alive();
}

