/* execve and execveat. The program executes itself with "helper:…" as its
 * first argument; the helper reports on standard output. */
#include "case.h"
#include <elf.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <sys/eventfd.h>

#define SELF "/proc/self/exe"

/* Words of initialised data, each its own index: 384 KiB, more than is copied when it is mapped. */
#define NUMBERS (96 * 1024)
__asm__(".pushsection .data\n.balign 4096\nnumbers: .set i, 0\n"
	".rept 96 * 1024\n.long i\n.set i, i + 1\n.endr\n.popsection");
extern volatile unsigned numbers[NUMBERS];

static void report(const char *format, ...)
{
	char text[4096];
	va_list args;
	va_start(args, format);
	int size = vsnprintf(text, sizeof text, format, args);
	va_end(args);
	if (write(1, text, size) != size)
		_exit(99);
}

static void help(int argc, char **argv, char **envp)
{
	const char *what = argv[1] + strlen("helper:");
	if (!strcmp(what, "arguments")) {
		for (int i = 0; i < argc; i++)
			report("[%s]", argv[i]);
		for (int i = 0; envp[i]; i++)
			report("{%s}", envp[i]);
	} else if (!strcmp(what, "pid")) {
		report("%d %d", getpid(), (int)syscall(SYS_gettid));
	} else if (!strcmp(what, "descriptor")) {
		report("%d", fcntl(atoi(argv[2]), F_GETFD) == -1 ? errno : 0);
	} else if (!strcmp(what, "signals")) {
		struct sigaction handled, ignored;
		sigset_t mask, pending;
		sigaction(SIGUSR1, NULL, &handled);
		sigaction(SIGUSR2, NULL, &ignored);
		sigprocmask(SIG_BLOCK, NULL, &mask);
		sigpending(&pending);
		report("%d%d%d%d", handled.sa_handler == SIG_DFL, ignored.sa_handler == SIG_IGN,
		       sigismember(&mask, SIGHUP), sigismember(&pending, SIGHUP));
	} else if (!strcmp(what, "alternate-stack")) {
		stack_t stack;
		sigaltstack(NULL, &stack);
		report("%d", stack.ss_flags == SS_DISABLE);
	} else if (!strcmp(what, "name")) {
		char name[16];
		prctl(PR_GET_NAME, name);
		report("%s", name);
	} else if (!strcmp(what, "state")) {
		char cwd[PATH_MAX];
		mode_t mask = umask(0);
		report("%s %o %u", getcwd(cwd, sizeof cwd) ? cwd : "?", mask, alarm(0) > 0);
	} else if (!strcmp(what, "aux")) {
		const char *random = (void *)getauxval(AT_RANDOM), *name = (void *)getauxval(AT_EXECFN);
		report("%lu %lu %lu %lu %d %s %d", getauxval(AT_PAGESZ), getauxval(AT_UID),
		       getauxval(AT_SECURE), getauxval(AT_CLKTCK), random != NULL, name,
		       getauxval(AT_SYSINFO_EHDR) != 0);
	} else if (!strcmp(what, "entry")) {
		Elf64_Phdr *header = (void *)getauxval(AT_PHDR);
		report("%lu %lu %d", getauxval(AT_PHENT), (unsigned long)sizeof *header,
		       getauxval(AT_PHNUM) > 2 && getauxval(AT_ENTRY) != 0);
	} else if (!strcmp(what, "stack")) {
		report("%d", (int)((uintptr_t)envp % 8));
	} else if (!strcmp(what, "write-self")) {
		report("%d", open(SELF, O_WRONLY) == -1 ? errno : 0);
	} else if (!strcmp(what, "data")) {
		/* Writes some pages, others each time; all must be the file's when the program begins. */
		unsigned wrong = 0, step = atoi(argv[2]);
		for (unsigned i = 0; i < NUMBERS; i++)
			wrong += numbers[i] != i;
		for (unsigned i = 0; i < NUMBERS; i += step * 1024)
			numbers[i + step] = ~0u;
		for (unsigned i = 0; i < NUMBERS; i++)
			wrong += numbers[i] != (i % (step * 1024) == step ? ~0u : i);
		report("%u", wrong);
	} else if (!strcmp(what, "exe")) {
		char path[PATH_MAX] = {0};
		report("%s", readlink(SELF, path, sizeof path - 1) > 0 ? path : "?");
	} else {
		_exit(98);
	}
	_exit(0);
}

__attribute__((constructor)) static void choose(int argc, char **argv, char **envp)
{
	if (argc > 1 && !strncmp(argv[1], "helper:", 7))
		help(argc, argv, envp);
}

/* What the program reports, run with these arguments and environment. */
static char *run_at(int dir, const char *path, int flags, char **argv, char **envp)
{
	static char got[8192];
	int ends[2];
	pid_t pid;
	ssize_t size = 0, more;
	expect_ok(pipe2(ends, O_CLOEXEC));
	SPAWN(pid) {
		expect_ok(dup2(ends[1], 1));
		expect_ok(syscall(SYS_execveat, dir, path, argv, envp, flags));
	}
	expect_ok(close(ends[1]));
	while ((more = expect_ok(read(ends[0], got + size, sizeof got - 1 - size))) > 0)
		size += more;
	got[size] = 0;
	expect_ok(close(ends[0]));
	expect_exit(pid, 0);
	return got;
}

static char *run(const char *what, const char *argument)
{
	char first[64];
	snprintf(first, sizeof first, "helper:%s", what);
	char *argv[] = {"self", first, (char *)argument, NULL}, *envp[] = {NULL};
	return run_at(AT_FDCWD, SELF, 0, argv, envp);
}

static int errno_of(const char *path)
{
	char *argv[] = {"x", "helper:pid", NULL}, *envp[] = {NULL};
	execve(path, argv, envp);
	return errno;
}

static void copy_self(const char *path)
{
	char block[65536];
	ssize_t size;
	int from = expect_ok(open(SELF, O_RDONLY)), to = expect_ok(open(path, O_CREAT | O_WRONLY, 0755));
	while ((size = expect_ok(read(from, block, sizeof block))) > 0)
		expect_eq(write(to, block, size), size);
	expect_ok(close(to));
	expect_ok(close(from));
}

CASE(arguments_and_environment_arrive_in_order)
{
	char *argv[] = {"zero", "helper:arguments", "", "two words", NULL};
	char *envp[] = {"A=1", "EMPTY=", "odd", NULL};
	expect_str(run_at(AT_FDCWD, SELF, 0, argv, envp),
		   "[zero][helper:arguments][][two words]{A=1}{EMPTY=}{odd}");
}

CASE(pid_stays_the_same)
{
	int ends[2], seen[2];
	pid_t pid;
	char got[64] = {0};
	expect_ok(pipe(ends));
	SPAWN(pid) {
		dup2(ends[1], 1);
		execl(SELF, "x", "helper:pid", NULL);
	}
	expect_exit(pid, 0);
	expect_ok(read(ends[0], got, sizeof got - 1));
	expect_eq(sscanf(got, "%d %d", &seen[0], &seen[1]), 2);
	expect_eq(seen[0], pid);
	expect_eq(seen[1], pid);
}

static void *exec_from_thread(void *unused UNUSED)
{
	execl(SELF, "x", "helper:pid", NULL);
	_exit(97);
}

static void *wait_forever(void *unused UNUSED)
{
	for (;;)
		pause();
	return NULL;
}

CASE(exec_from_a_thread_ends_the_others_and_takes_the_leaders_pid)
{
	int ends[2], seen[2];
	pid_t pid;
	char got[64] = {0};
	expect_ok(pipe(ends));
	SPAWN(pid) {
		pthread_t other, thread;
		dup2(ends[1], 1);
		expect_zero(pthread_create(&other, NULL, wait_forever, NULL));
		expect_zero(pthread_create(&thread, NULL, exec_from_thread, NULL));
		wait_forever(NULL);
	}
	expect_exit(pid, 0);
	expect_ok(read(ends[0], got, sizeof got - 1));
	expect_eq(sscanf(got, "%d %d", &seen[0], &seen[1]), 2);
	expect_eq(seen[0], pid);
	expect_eq(seen[1], pid);
}

CASE(close_on_exec_descriptors_are_closed_and_others_kept)
{
	expect_eq(dup3(expect_ok(eventfd(0, 0)), 100, O_CLOEXEC), 100);
	expect_eq(dup2(100, 101), 101);
	char want[16];
	snprintf(want, sizeof want, "%d", EBADF);
	expect_str(run("descriptor", "100"), want);
	expect_str(run("descriptor", "101"), "0");
}

static void on_signal(int signal UNUSED, siginfo_t *info UNUSED, void *context UNUSED)
{
}

CASE(handlers_are_reset_and_ignored_mask_and_pending_kept)
{
	int ends[2];
	pid_t pid;
	char got[8] = {0};
	expect_ok(pipe(ends));
	SPAWN(pid) {
		handle(SIGUSR1, on_signal, 0);
		signal(SIGUSR2, SIG_IGN);
		block(SIGHUP);
		raise(SIGHUP);
		dup2(ends[1], 1);
		execl(SELF, "x", "helper:signals", NULL);
	}
	expect_exit(pid, 0);
	expect_eq(read(ends[0], got, sizeof got), 4);
	expect_str(got, "1111");
}

CASE(alternate_signal_stack_is_dropped)
{
	stack_t stack = {.ss_sp = map_anonymous(65536), .ss_size = 65536};
	expect_ok(sigaltstack(&stack, NULL));
	expect_str(run("alternate-stack", NULL), "1");
}

IN_DIR_CASE(thread_name_is_the_last_path_component_cut_to_15)
{
	char *argv[] = {"other", "helper:name", NULL}, *envp[] = {NULL};
	copy_self("a-rather-long-name");
	expect_str(run_at(AT_FDCWD, "./a-rather-long-name", 0, argv, envp), "a-rather-long-n");
}

IN_DIR_CASE(directory_umask_and_alarm_survive)
{
	char cwd[PATH_MAX], want[PATH_MAX + 32];
	expect(getcwd(cwd, sizeof cwd));
	snprintf(want, sizeof want, "%s 77 1", cwd);
	umask(077);
	expect_str(run("state", NULL), want);
}

CASE(auxiliary_vector_describes_the_process)
{
	char want[128];
	snprintf(want, sizeof want, "4096 %u 0 100 1 %s 1", getuid(), SELF);
	expect_str(run("aux", NULL), want);
}

CASE(auxiliary_vector_describes_the_program_headers)
{
	expect_str(run("entry", NULL), "56 56 1");
}

CASE(initial_stack_is_aligned)
{
	expect_str(run("stack", NULL), "0");
}

IN_DIR_CASE(proc_self_exe_names_the_executed_file)
{
	char real[PATH_MAX];
	char *argv[] = {"x", "helper:exe", NULL}, *envp[] = {NULL};
	copy_self("copy");
	expect_ok(symlink("copy", "link"));
	expect(realpath("copy", real));
	expect_str(run_at(AT_FDCWD, "link", 0, argv, envp), real);
}

CASE(missing_file_is_enoent)
{
	expect_eq(errno_of("/missing-entirely"), ENOENT);
	expect_eq(errno_of(""), ENOENT);
}

IN_DIR_CASE(file_without_execute_bit_is_eacces)
{
	copy_self("copy");
	expect_ok(chmod("copy", 0644));
	expect_eq(errno_of("./copy"), EACCES);
}

IN_DIR_CASE(directory_and_fifo_are_eacces)
{
	expect_ok(mkdir("d", 0700));
	expect_ok(mkfifo("p", 0700));
	expect_eq(errno_of("./d"), EACCES);
	expect_eq(errno_of("./p"), EACCES);
	write_file("f", "");
	expect_eq(errno_of("./f/x"), ENOTDIR);
}

IN_DIR_CASE(unknown_format_is_enoexec)
{
	write_file("text", "just text\n");
	write_file("empty", "");
	write_file("elf", "\177ELF");
	expect_ok(chmod("text", 0755));
	expect_ok(chmod("empty", 0755));
	expect_ok(chmod("elf", 0755));
	expect_eq(errno_of("./text"), ENOEXEC);
	expect_eq(errno_of("./empty"), ENOEXEC);
	expect_eq(errno_of("./elf"), ENOEXEC);
}

IN_DIR_CASE(elf_of_another_machine_is_enoexec)
{
	copy_self("copy");
	int fd = expect_ok(open("copy", O_RDWR));
	Elf64_Half machine = EM_PPC64;
	expect_eq(pwrite(fd, &machine, 2, offsetof(Elf64_Ehdr, e_machine)), 2);
	expect_ok(close(fd));
	expect_eq(errno_of("./copy"), ENOEXEC);
}

IN_DIR_CASE(file_open_for_writing_is_etxtbsy)
{
	copy_self("copy");
	int fd = expect_ok(open("copy", O_WRONLY));
	expect_eq(errno_of("./copy"), ETXTBSY);
	expect_ok(close(fd));
	char *argv[] = {"x", "helper:stack", NULL}, *envp[] = {NULL};
	expect_str(run_at(AT_FDCWD, "./copy", 0, argv, envp), "0");
}

IN_DIR_CASE(running_program_cannot_be_opened_for_writing)
{
	char want[16], *argv[] = {"x", "helper:write-self", NULL}, *envp[] = {NULL};
	copy_self("copy");
	snprintf(want, sizeof want, "%d", ETXTBSY);
	expect_str(run_at(AT_FDCWD, "./copy", 0, argv, envp), want);
}

IN_DIR_CASE(script_runs_its_interpreter_with_path_and_arguments)
{
	char self[PATH_MAX] = {0}, text[2 * PATH_MAX], want[3 * PATH_MAX];
	expect_ok(readlink(SELF, self, sizeof self - 1));
	snprintf(text, sizeof text, "#! %s   helper:arguments  \nignored", self);
	write_file("script", text);
	expect_ok(chmod("script", 0755));
	char *argv[] = {"lost", "one", "two", NULL}, *envp[] = {"E=1", NULL};
	/* The rest of the line is one argument; then the path; argv[0] is lost. */
	snprintf(want, sizeof want, "[%s][helper:arguments][./script][one][two]{E=1}", self);
	expect_str(run_at(AT_FDCWD, "./script", 0, argv, envp), want);
}

IN_DIR_CASE(script_may_be_interpreted_by_a_script)
{
	char self[PATH_MAX] = {0}, text[2 * PATH_MAX], want[3 * PATH_MAX];
	expect_ok(readlink(SELF, self, sizeof self - 1));
	snprintf(text, sizeof text, "#!%s helper:arguments\n", self);
	write_file("inner", text);
	write_file("outer", "#!./inner extra argument\n");
	expect_ok(chmod("inner", 0755));
	expect_ok(chmod("outer", 0755));
	char *argv[] = {"lost", NULL}, *envp[] = {NULL};
	snprintf(want, sizeof want, "[%s][helper:arguments][./inner][extra argument][./outer]", self);
	expect_str(run_at(AT_FDCWD, "./outer", 0, argv, envp), want);
}

IN_DIR_CASE(script_with_missing_interpreter_is_enoent)
{
	write_file("script", "#!/missing-entirely\n");
	expect_ok(chmod("script", 0755));
	expect_eq(errno_of("./script"), ENOENT);
	write_file("script", "#!\n");
	expect_eq(errno_of("./script"), ENOEXEC);
}

IN_DIR_CASE(scripts_nested_too_deep_are_eloop)
{
	write_file("s0", "#!./s0\n");
	expect_ok(chmod("s0", 0755));
	expect_eq(errno_of("./s0"), ELOOP);
}

CASE(one_string_over_32_pages_is_e2big)
{
	char *big = map_anonymous(33 * PAGE);
	memset(big, 'x', 32 * PAGE);
	char *argv[] = {"x", big, NULL}, *envp[] = {NULL};
	expect_errno(execve(SELF, argv, envp), E2BIG);
	char *many[] = {"x", "helper:stack", big, NULL};
	big[32 * PAGE - 1] = 0;
	expect_str(run_at(AT_FDCWD, SELF, 0, many, envp), "0");
}

CASE(arguments_over_a_quarter_of_the_stack_limit_are_e2big)
{
	enum { COUNT = 100 };
	char *big = map_anonymous(31 * PAGE), *argv[COUNT + 2], *envp[] = {NULL};
	memset(big, 'x', 30 * PAGE);
	struct rlimit limit;
	expect_ok(getrlimit(RLIMIT_STACK, &limit));
	limit.rlim_cur = 8 << 20;
	expect_ok(setrlimit(RLIMIT_STACK, &limit));
	for (int i = 0; i <= COUNT; i++)
		argv[i] = big;
	argv[COUNT + 1] = NULL;
	expect_errno(execve(SELF, argv, envp), E2BIG);
}

CASE(bad_argument_pointers_are_efault)
{
	char *bad[] = {"x", (char *)8, NULL}, *envp[] = {NULL};
	expect_errno(execve(SELF, bad, envp), EFAULT);
	expect_errno(execve(SELF, (char **)8, envp), EFAULT);
	expect_errno(execve((char *)8, envp, envp), EFAULT);
}

CASE(fexecve_runs_an_open_descriptor)
{
	char *argv[] = {"x", "helper:stack", NULL}, *envp[] = {NULL};
	int fd = expect_ok(open(SELF, O_RDONLY | O_CLOEXEC));
	expect_str(run_at(fd, "", AT_EMPTY_PATH, argv, envp), "0");
	fd = expect_ok(open(SELF, O_PATH | O_CLOEXEC));
	expect_str(run_at(fd, "", AT_EMPTY_PATH, argv, envp), "0");
}

IN_DIR_CASE(fexecve_of_a_cloexec_script_is_enoent)
{
	char *argv[] = {"x", NULL};
	write_file("script", "#!/proc/self/exe\n");
	expect_ok(chmod("script", 0755));
	int fd = expect_ok(open("script", O_RDONLY | O_CLOEXEC));
	expect_errno(syscall(SYS_execveat, fd, "", argv, argv + 1, AT_EMPTY_PATH), ENOENT);
}

IN_DIR_CASE(execveat_uses_its_directory_and_can_refuse_links)
{
	char *argv[] = {"x", "helper:stack", NULL}, *envp[] = {NULL};
	expect_ok(mkdir("d", 0700));
	copy_self("d/copy");
	expect_ok(symlink("copy", "d/link"));
	int dir = expect_ok(open("d", O_PATH));
	expect_str(run_at(dir, "copy", 0, argv, envp), "0");
	expect_str(run_at(dir, "link", 0, argv, envp), "0");
	expect_errno(syscall(SYS_execveat, dir, "link", argv, envp, AT_SYMLINK_NOFOLLOW), ELOOP);
	expect_errno(syscall(SYS_execveat, dir, "copy", argv, envp, 1), EINVAL);
}

CASE(vfork_then_exec_releases_the_parent)
{
	int ends[2];
	char got[8] = {0};
	expect_ok(pipe(ends));
	pid_t pid = vfork();
	if (pid == 0) {
		dup2(ends[1], 1);
		execl(SELF, "x", "helper:stack", NULL);
		_exit(96);
	}
	expect_exit(pid, 0);
	expect_eq(read(ends[0], got, sizeof got), 1);
}

CASE(initialised_data_is_the_files_in_each_run)
{
	static char *const steps[] = {"40", "7", "1", "7", "13"};
	for (int i = 0; i < 5; i++)
		expect_str(run("data", steps[i]), "0");
}

CASE(failed_exec_leaves_the_process_as_it_was)
{
	handle(SIGUSR1, on_signal, 0);
	expect_eq(dup3(0, 100, O_CLOEXEC), 100);
	expect_eq(errno_of("/missing-entirely"), ENOENT);
	expect_ok(fcntl(100, F_GETFD));
	struct sigaction action;
	expect_ok(sigaction(SIGUSR1, NULL, &action));
	expect(action.sa_sigaction == on_signal);
}
