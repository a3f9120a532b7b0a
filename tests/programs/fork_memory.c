/* fork(2) and the memory of both sides, small and large; mappings that are made long before they are used. */
#include "case.h"
#include <sys/mman.h>
#include <sys/uio.h>

#ifndef MAP_DENYWRITE
#define MAP_DENYWRITE 0x800
#endif

#define PART (MAP_PRIVATE | MAP_DENYWRITE)
#define FORKS 14

static char initialized[3 * PAGE] = "initialized";
static char zeroes[3 * PAGE];

/* A file of `pages` pages, each full of its own letter. */
static int lettered(const char *name, int pages)
{
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
	expect_ok(fd);
	char page[PAGE];
	for (int n = 0; n < pages; n++) {
		memset(page, 'a' + n, PAGE);
		expect_eq(write(fd, page, PAGE), (long)PAGE);
	}
	return fd;
}

static char *map_at(void *at, size_t len, int prot, int flags, int fd, off_t offset)
{
	char *memory = mmap(at, len, prot, flags | (at ? MAP_FIXED : 0), fd, offset);
	expect(memory != MAP_FAILED);
	return memory;
}

static void reads_fault(volatile char *at)
{
	pid_t pid;
	SPAWN(pid) {
		prctl(PR_SET_DUMPABLE, 0);
		*at;
	}
	expect_killed(pid, SIGSEGV);
}

IN_DIR_CASE(parts_of_a_library_take_their_places_before_it_is_used)
{
	int fd = lettered("file", 6);
	char *all = map_at(NULL, 8 * PAGE, PROT_READ, PART, fd, 0);
	map_at(all + PAGE, PAGE, PROT_READ | PROT_EXEC, PART, fd, PAGE);
	map_at(all + 2 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE, PART, fd, 4 * PAGE);
	map_at(all + 6 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	all[2 * PAGE] = 'W';
	expect_eq(all[0], 'a');
	expect_eq(all[PAGE], 'b');
	expect_eq(all[2 * PAGE + 1], 'e');
	expect_eq(all[3 * PAGE], 'f');
	expect_eq(all[4 * PAGE], 'e');
	expect_eq(all[6 * PAGE], 0);
	all[7 * PAGE] = 'Z';
	char byte;
	expect_eq(pread(fd, &byte, 1, 4 * PAGE), 1);
	expect_eq(byte, 'e');
}

IN_DIR_CASE(an_unused_part_of_a_library_can_be_unmapped_and_replaced)
{
	int fd = lettered("file", 4);
	char *all = map_at(NULL, 4 * PAGE, PROT_READ, PART, fd, 0);
	expect_ok(munmap(all + PAGE, PAGE));
	reads_fault(all + PAGE);
	char *other = map_at(all + PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	expect_eq(other[0], 0);
	other[0] = 'x';
	expect_eq(all[0], 'a');
	expect_eq(all[2 * PAGE], 'c');
	expect_ok(munmap(all, 4 * PAGE));
	reads_fault(all);
	reads_fault(all + PAGE);
}

IN_DIR_CASE(access_to_an_unused_part_of_a_library_is_taken_and_given)
{
	int fd = lettered("file", 2);
	char *all = map_at(NULL, 2 * PAGE, PROT_READ, PART, fd, 0);
	expect_ok(mprotect(all, PAGE, PROT_NONE));
	reads_fault(all);
	expect_ok(mprotect(all, PAGE, PROT_READ | PROT_WRITE));
	all[0] = 'W';
	expect_eq(all[1], 'a');
	expect_ok(mprotect(all + PAGE, PAGE, PROT_READ | PROT_WRITE));
	expect_ok(mprotect(all + PAGE, PAGE, PROT_READ));
	expect_eq(all[PAGE], 'b');
}

IN_DIR_CASE(unused_parts_of_a_library_are_moved_and_read_by_system_calls)
{
	int fd = lettered("file", 3);
	char *all = map_at(NULL, 3 * PAGE, PROT_READ, PART, fd, 0);
	char *away = mremap(all + 2 * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, map_anonymous(PAGE));
	expect(away != MAP_FAILED);
	int ends[2];
	char byte;
	expect_ok(pipe(ends));
	expect_eq(write(ends[1], all + PAGE, 1), 1);
	expect_eq(read(ends[0], &byte, 1), 1);
	expect_eq(byte, 'b');
	struct iovec to = {&byte, 1}, from = {away, 1};
	expect_eq(process_vm_readv(getpid(), &to, 1, &from, 1, 0), 1);
	expect_eq(byte, 'c');
	expect_eq(away[1], 'c');
	expect_eq(all[0], 'a');
	reads_fault(all + 2 * PAGE);
}

IN_DIR_CASE(a_file_cut_short_under_an_unused_mapping_is_sigbus)
{
	int fd = lettered("file", 2);
	char *all = map_at(NULL, 2 * PAGE, PROT_READ, PART, fd, 0);
	expect_ok(ftruncate(fd, PAGE));
	expect_eq(all[0], 'a');
	pid_t pid;
	SPAWN(pid) {
		prctl(PR_SET_DUMPABLE, 0);
		*(volatile char *)(all + PAGE);
	}
	expect_killed(pid, SIGBUS);
}

/* Forks again and again. Each child sees what was written last, and what it writes is its own and its child's. */
static void forks_see_and_keep_their_own(char *memory, size_t pages)
{
	char local[2 * PAGE];
	char *heap = malloc(5 * PAGE);
	expect(heap != NULL);
	for (int round = 1; round <= FORKS; round++) {
		for (size_t n = 0; n < pages; n += 3)
			memory[n * PAGE + 7] = (char)round;
		initialized[PAGE] = zeroes[PAGE] = local[PAGE] = heap[PAGE] = (char)round;
		pid_t pid;
		SPAWN(pid) {
			for (size_t n = 0; n < pages; n++)
				expect_eq(memory[n * PAGE + 7], n % 3 ? 0 : round);
			expect_eq(initialized[PAGE] + zeroes[PAGE] + local[PAGE] + heap[PAGE], 4 * round);
			expect_str(initialized, "initialized");
			memset(memory, 'c', pages * PAGE);
			initialized[PAGE] = zeroes[PAGE] = local[PAGE] = heap[PAGE] = 'c';
			pid_t grandchild;
			SPAWN(grandchild) {
				expect_eq(memory[(pages - 1) * PAGE + 5], 'c');
				expect_eq(initialized[PAGE] + zeroes[PAGE] + local[PAGE] + heap[PAGE], 4 * 'c');
				memory[0] = zeroes[PAGE] = 'g';
			}
			expect_exit(grandchild, 0);
			expect_eq(memory[0], 'c');
			expect_eq(zeroes[PAGE], 'c');
		}
		expect_exit(pid, 0);
		for (size_t n = 0; n < pages; n++) {
			expect_eq(memory[n * PAGE + 7], n % 3 ? 0 : round);
			expect_eq(memory[n * PAGE + 5], 0);
		}
		expect_eq(initialized[PAGE] + zeroes[PAGE] + local[PAGE] + heap[PAGE], 4 * round);
	}
	free(heap);
}

CASE(small_programs_have_their_own_memory_after_each_fork)
{
	forks_see_and_keep_their_own(map_anonymous(60 * PAGE), 60);
}

CASE(programs_with_megabytes_have_their_own_memory_after_each_fork)
{
	forks_see_and_keep_their_own(map_anonymous(900 * PAGE), 900);
}

CASE(large_programs_have_their_own_memory_after_each_fork)
{
	forks_see_and_keep_their_own(map_anonymous(1500 * PAGE), 1500);
}

CASE(memory_first_touched_after_fork_is_zero_and_private_on_both_sides)
{
	char *memory = map_anonymous(16 * PAGE);
	memory[3 * PAGE] = 'p';
	int ends[2];
	expect_ok(pipe(ends));
	pid_t pid;
	SPAWN(pid) {
		char byte;
		expect_eq(read(ends[0], &byte, 1), 1);
		for (int n = 0; n < 16; n++)
			expect_eq(memory[n * PAGE], n == 3 ? 'p' : 0);
	}
	memset(memory, 'q', 16 * PAGE);
	expect_eq(write(ends[1], "", 1), 1);
	expect_exit(pid, 0);
}

IN_DIR_CASE(children_use_the_files_that_their_parent_mapped)
{
	char *files[20];
	for (int n = 0; n < 20; n++) {
		char name[8];
		snprintf(name, sizeof name, "f%d", n);
		int fd = lettered(name, 2 + n % 2);
		int prot = n % 3 ? PROT_READ : PROT_READ | PROT_WRITE;
		files[n] = map_at(NULL, 2 * PAGE, prot, n % 5 ? MAP_PRIVATE : MAP_SHARED, fd, n % 2 * PAGE);
		close(fd);
	}
	for (int round = 0; round < FORKS; round++) {
		pid_t pid;
		SPAWN(pid) {
			pid_t grandchild;
			SPAWN(grandchild) {
				for (int n = round; n < 20; n++)
					expect_eq(files[n][PAGE], 'b' + n % 2);
			}
			expect_exit(grandchild, 0);
			for (int n = 19; n >= round; n--) {
				expect_eq(files[n][0], 'a' + n % 2);
				if (n % 3 == 0 && n % 5)
					files[n][0] = 'w';
			}
			expect_ok(munmap(files[round], PAGE));
			expect_eq(files[round][PAGE], 'b' + round % 2);
			reads_fault(files[round]);
			expect_ok(mprotect(files[19], PAGE, PROT_NONE));
			reads_fault(files[19]);
		}
		expect_exit(pid, 0);
	}
}

CASE(ranges_left_out_or_wiped_at_fork_are_so_among_many)
{
	char *memory = map_anonymous(9 * PAGE);
	for (int n = 0; n < 9; n++)
		memory[n * PAGE] = (char)('0' + n);
	expect_ok(madvise(memory + PAGE, PAGE, MADV_WIPEONFORK));
	expect_ok(madvise(memory + 4 * PAGE, PAGE, MADV_DONTFORK));
	expect_ok(mprotect(memory + 6 * PAGE, PAGE, PROT_READ));
	pid_t pid;
	SPAWN(pid) {
		for (int n = 0; n < 9; n++)
			if (n != 4)
				expect_eq(memory[n * PAGE], n == 1 ? 0 : '0' + n);
		reads_fault(memory + 4 * PAGE);
		expect_ok(mprotect(memory + 6 * PAGE, PAGE, PROT_READ | PROT_WRITE));
		memory[6 * PAGE] = 'c';
	}
	expect_exit(pid, 0);
	for (int n = 0; n < 9; n++)
		expect_eq(memory[n * PAGE], '0' + n);
}
