/* Ways round the rules for files of a profile. In the guarded directory are `hidden` (hide), `denied` (deny), `unreadable`
 * (deny read), each with a file that has the secret, and `free`, which no rule names. */
#include "attack.h"
#include <pthread.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/un.h>

static const char *const places[] = {"hidden", "denied", "unreadable"};
#define EACH(i) for (unsigned i = 0; i < sizeof places / sizeof *places; i++)

static void enter(void) { expect_ok(chdir(getenv("GUARDED"))); }

static const char *named(const char *format, ...)
{
	static char names[8][PATH_MAX];
	static unsigned turn;
	char *name = names[turn++ % 8];
	va_list args;
	va_start(args, format);
	vsnprintf(name, PATH_MAX, format, args);
	va_end(args);
	return name;
}

/* Tells what can be read, for the harness to look at. */
static bool tell(int directory, const char *name)
{
	char text[256];
	int fd = openat(directory, name, O_RDONLY | O_NONBLOCK);
	if (fd < 0)
		return false;
	ssize_t size = read(fd, text, sizeof text);
	if (size > 0)
		write(1, text, size);
	close(fd);
	return size > 0;
}

static void tell_all(const char *name)
{
	tell(AT_FDCWD, name);
	tell(AT_FDCWD, named("%s/canary", name));
	int fd = open(name, O_PATH | O_NOFOLLOW);
	if (fd < 0)
		return;
	tell(fd, "canary");
	tell(AT_FDCWD, named("/proc/self/fd/%d", fd));
	tell(AT_FDCWD, named("/proc/self/fd/%d/canary", fd));
	tell(AT_FDCWD, named("/proc/thread-self/fd/%d", fd));
	linkat(fd, "", AT_FDCWD, "free/by-descriptor", AT_EMPTY_PATH);
	linkat(AT_FDCWD, named("/proc/self/fd/%d", fd), AT_FDCWD, "free/by-descriptor", AT_SYMLINK_FOLLOW);
	tell(AT_FDCWD, "free/by-descriptor");
	unlink("free/by-descriptor");
	syscall(SYS_execveat, fd, "", NULL, NULL, AT_EMPTY_PATH);
	close(fd);
}

CASE(other_names_for_what_rules_protect)
{
	enter();
	char cwd[PATH_MAX];
	expect(getcwd(cwd, sizeof cwd) != NULL);
	EACH(i) {
		const char *file = named("%s/canary", places[i]);
		tell_all(file);
		tell_all(places[i]);
		tell(AT_FDCWD, named("/proc/self/cwd/%s", file));
		tell(AT_FDCWD, named("/proc/self/root/%s/%s", cwd, file));
		tell(AT_FDCWD, named("free/../%s/../%s", places[i], file));
		symlink(named("../%s", file), "free/link");
		tell_all("free/link");
		unlink("free/link");
		symlink(named("../%s", places[i]), "free/link");
		tell_all("free/link");
		unlink("free/link");
		if (link(file, "free/hard") == 0)
			tell(AT_FDCWD, "free/hard");
		if (rename(file, "free/moved") == 0)
			tell(AT_FDCWD, "free/moved");
		mkdir("free/d", 0700);
		if (syscall(SYS_renameat2, AT_FDCWD, places[i], AT_FDCWD, "free/d", RENAME_EXCHANGE) == 0)
			tell(AT_FDCWD, "free/d/canary");
		if (rename(places[i], "free/moved") == 0)
			tell(AT_FDCWD, "free/moved/canary");
		if (rename("../guarded", "../unguarded") == 0)
			tell(AT_FDCWD, named("../unguarded/%s", file));
		if (rename("free", places[i]) == 0)
			fail("%s was replaced", places[i]);
		if (chdir(places[i]) == 0) {
			tell(AT_FDCWD, "canary");
			tell(AT_FDCWD, "/proc/self/cwd/canary");
			expect_ok(chdir(".."));
		}
		open(file, O_RDONLY | O_CREAT | O_TRUNC, 0666);
		open(file, O_RDWR | O_APPEND);
		execl(file, file, NULL);
		char handle[128] = {120};
		int mount_id;
		if (syscall(SYS_name_to_handle_at, AT_FDCWD, file, handle, &mount_id, 0) == 0) {
			int fd = syscall(SYS_open_by_handle_at, AT_FDCWD, handle, O_RDONLY);
			if (fd >= 0)
				sendfile(1, fd, NULL, 256);
		}
	}
	expect_errno(access("hidden", F_OK), ENOENT);
	expect_errno(open("hidden", O_PATH), ENOENT);
	expect_errno(mkdir("hidden", 0700), EACCES);
	expect_errno(open("denied/canary", O_RDONLY), EACCES);
	expect_errno(open("unreadable/canary", O_RDONLY), EACCES);
	alive();
}

CASE(mounts_roots_and_namespaces_keep_rules)
{
	if (geteuid() != 0)
		skip("needs root");
	enter();
	mkdir("/tmp/there", 0700);
	int directory = expect_ok(open(".", O_RDONLY | O_DIRECTORY));
	for (int round = 0; round < 2; round++) {
		EACH(i) {
			mount(places[i], "/tmp/there", NULL, MS_BIND, NULL);
			tell_all("/tmp/there");
			umount2("/tmp/there", MNT_DETACH);
			tell_all(named("/proc/1/cwd/%s", places[i]));
		}
		if (mount(".", "/tmp/there", NULL, MS_BIND | MS_REC, NULL) == 0) {
			EACH(i) tell_all(named("/tmp/there/%s", places[i]));
			if (mount("/tmp/there", "/tmp", NULL, MS_MOVE, NULL) == 0) {
				EACH(i) tell_all(named("/tmp/%s", places[i]));
				umount2("/tmp", MNT_DETACH);
			}
			umount2("/tmp/there", MNT_DETACH);
		}
		unshare(CLONE_NEWNS | CLONE_FS);
	}
	mount("none", "free", "tmpfs", 0, NULL);
	EACH(i) tell_all(places[i]);
	pid_t pid = expect_ok(fork());
	if (pid == 0) {
		expect_ok(chroot("."));
		EACH(i) tell_all(named("/%s", places[i]));
		expect_ok(fchdir(directory));
		for (int up = 0; up < 20; up++)
			chdir("..");
		chroot(".");
		fchdir(directory);
		EACH(i) tell_all(places[i]);
		_exit(0);
	}
	int status;
	expect_eq(waitpid(pid, &status, 0), pid);
	expect_eq(status, 0);
	alive();
}

CASE(hidden_names_are_in_no_listing)
{
	enter();
	int watch = expect_ok(inotify_init1(IN_NONBLOCK));
	expect_ok(inotify_add_watch(watch, ".", IN_ALL_EVENTS));
	expect_errno(inotify_add_watch(watch, "hidden", IN_ALL_EVENTS), ENOENT);
	for (int size = 24; size < 2000; size = size * 3 / 2) {
		int fd = expect_ok(open(".", O_RDONLY | O_DIRECTORY)), seen = 0;
		char buffer[2000];
		long got;
		while ((got = syscall(SYS_getdents64, fd, buffer, size)) > 0)
			for (long at = 0; at < got; at += *(unsigned short *)(buffer + at + 16)) {
				expect(strcmp(buffer + at + 19, "hidden"));
				seen++;
			}
		if (got == 0)
			expect(seen >= 5); /* . .. denied free unreadable */
		close(fd);
	}
	char events[4096];
	long got = read(watch, events, sizeof events);
	for (long at = 0; at < got; at += sizeof(struct inotify_event) + ((struct inotify_event *)(events + at))->len)
		expect(strcmp(((struct inotify_event *)(events + at))->name, "hidden"));
	alive();
}

static volatile bool done;

/* Swaps what the name `race` leads to, and what directories are called. */
static void *swap(void *unused)
{
	(void)unused;
	for (unsigned i = 0; !done; i++) {
		unlink("free/next");
		symlink(i & 1 ? "own" : named("../%s", places[i / 2 % 3]), "free/next");
		rename("free/next", "free/race");
		syscall(SYS_renameat2, AT_FDCWD, "free/own", AT_FDCWD, "free/other", RENAME_EXCHANGE);
		syscall(SYS_renameat2, AT_FDCWD, "free/own", AT_FDCWD, places[i % 3], RENAME_EXCHANGE);
		rename("free/own", places[i % 3]);
		rename(places[i % 3], "free/taken");
		rename(named("%s/canary", places[i % 3]), "free/own/taken");
		link(named("%s/canary", places[i % 3]), "free/own/linked");
	}
	return NULL;
}

CASE(names_that_change_while_rules_are_asked)
{
	enter();
	mkdir("free/own", 0700);
	mkdir("free/other", 0700);
	int fd = expect_ok(open("free/own/canary", O_CREAT | O_WRONLY, 0600));
	expect_eq(write(fd, "harmless", 8), 8);
	expect_ok(fsync(fd));
	pthread_t thread;
	expect_zero(pthread_create(&thread, NULL, swap, NULL));
	struct timespec start, now;
	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		for (int i = 0; i < 50; i++) {
			tell(AT_FDCWD, "free/race/canary");
			int place = open("free/race", O_PATH);
			if (place >= 0) {
				tell(place, "canary");
				close(place);
			}
			tell(AT_FDCWD, "free/taken/canary");
			tell(AT_FDCWD, "free/own/taken");
			tell(AT_FDCWD, "free/own/linked");
			tell(AT_FDCWD, "free/other/taken");
			link("free/race/canary", "free/stolen");
			tell(AT_FDCWD, "free/stolen");
			rename("free/race/canary", "free/stolen");
			tell(AT_FDCWD, "free/stolen");
			unlink("free/stolen");
		}
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec - start.tv_sec < 2);
	done = true;
	expect_zero(pthread_join(thread, NULL));
	EACH(i) tell_all(places[i]);
	alive();
}
