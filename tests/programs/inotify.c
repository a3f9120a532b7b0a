/* inotify. */
#include "case.h"
#include <sys/inotify.h>
#include <sys/ioctl.h>

static int fd;
static char buffer[8192] __attribute__((aligned(8)));
static ssize_t filled, at;

static int watch(const char *path, uint32_t mask)
{
	if (!fd)
		fd = expect_ok(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
	return expect_ok(inotify_add_watch(fd, path, mask));
}

/* The next event has these fields; its cookie. */
static uint32_t expect_event(int wd, uint32_t mask, const char *name)
{
	if (at >= filled) {
		filled = read(fd, buffer, sizeof buffer);
		if (filled <= 0)
			fail("no event, want mask %#x %s", mask, name);
		at = 0;
	}
	struct inotify_event *event = (void *)(buffer + at);
	at += sizeof *event + event->len;
	if (event->wd != wd || event->mask != mask || strcmp(event->len ? event->name : "", name))
		fail("got wd %d mask %#x \"%s\", want %d %#x \"%s\"", event->wd, event->mask,
		     event->len ? event->name : "", wd, mask, name);
	return event->cookie;
}

static void expect_no_event(void)
{
	expect(at >= filled);
	expect_errno(read(fd, buffer, sizeof buffer), EAGAIN);
}

IN_DIR_CASE(create_write_close_delete_in_a_directory)
{
	int wd = watch(".", IN_ALL_EVENTS);
	int file = expect_ok(open("f", O_CREAT | O_RDWR, 0600));
	expect_eq(write(file, "x", 1), 1);
	expect_ok(close(file));
	expect_ok(unlink("f"));
	expect_event(wd, IN_CREATE, "f");
	expect_event(wd, IN_OPEN, "f");
	expect_event(wd, IN_MODIFY, "f");
	expect_event(wd, IN_CLOSE_WRITE, "f");
	expect_event(wd, IN_DELETE, "f");
	expect_no_event();
}

IN_DIR_CASE(read_and_close_without_writing)
{
	char byte;
	write_file("f", "x");
	int wd = watch("f", IN_ACCESS | IN_CLOSE_NOWRITE | IN_OPEN);
	int file = expect_ok(open("f", O_RDONLY));
	expect_eq(read(file, &byte, 1), 1);
	expect_ok(close(file));
	expect_event(wd, IN_OPEN, "");
	expect_event(wd, IN_ACCESS, "");
	expect_event(wd, IN_CLOSE_NOWRITE, "");
	expect_no_event();
}

IN_DIR_CASE(rename_gives_two_events_with_one_cookie)
{
	expect_ok(mkdir("a", 0700));
	expect_ok(mkdir("b", 0700));
	write_file("a/f", "");
	int from = watch("a", IN_MOVE), to = watch("b", IN_MOVE);
	expect_ok(rename("a/f", "b/g"));
	uint32_t cookie = expect_event(from, IN_MOVED_FROM, "f");
	expect(cookie != 0);
	expect_eq(expect_event(to, IN_MOVED_TO, "g"), cookie);
	expect_no_event();
}

IN_DIR_CASE(move_self_is_reported_on_the_moved_file)
{
	write_file("f", "");
	int wd = watch("f", IN_MOVE_SELF);
	expect_ok(rename("f", "g"));
	expect_event(wd, IN_MOVE_SELF, "");
	expect_no_event();
}

IN_DIR_CASE(delete_self_is_followed_by_ignored)
{
	write_file("f", "");
	int wd = watch("f", IN_DELETE_SELF);
	expect_ok(unlink("f"));
	expect_event(wd, IN_DELETE_SELF, "");
	expect_event(wd, IN_IGNORED, "");
	expect_errno(inotify_rm_watch(fd, wd), EINVAL);
}

IN_DIR_CASE(unlink_of_one_of_two_names_is_attrib)
{
	write_file("f", "");
	expect_ok(link("f", "g"));
	int wd = watch("f", IN_ATTRIB | IN_DELETE_SELF);
	expect_ok(unlink("g"));
	expect_event(wd, IN_ATTRIB, "");
	expect_no_event();
}

IN_DIR_CASE(chmod_and_utimes_are_attrib)
{
	write_file("f", "");
	int wd = watch(".", IN_ATTRIB);
	expect_ok(chmod("f", 0600));
	expect_event(wd, IN_ATTRIB, "f");
	expect_ok(utimensat(AT_FDCWD, "f", (struct timespec[2]){{1, 0}, {1, 0}}, 0));
	expect_event(wd, IN_ATTRIB, "f");
	expect_no_event();
}

IN_DIR_CASE(directories_carry_isdir)
{
	int wd = watch(".", IN_CREATE | IN_DELETE);
	expect_ok(mkdir("d", 0700));
	expect_ok(rmdir("d"));
	expect_event(wd, IN_CREATE | IN_ISDIR, "d");
	expect_event(wd, IN_DELETE | IN_ISDIR, "d");
}

IN_DIR_CASE(truncate_is_modify)
{
	write_file("f", "abc");
	int wd = watch("f", IN_MODIFY);
	expect_ok(truncate("f", 1));
	expect_event(wd, IN_MODIFY, "");
	expect_no_event();
}

IN_DIR_CASE(open_with_trunc_of_a_file_with_contents_is_modify)
{
	write_file("f", "abc");
	int wd = watch("f", IN_MODIFY);
	expect_ok(open("f", O_WRONLY | O_TRUNC));
	expect_event(wd, IN_MODIFY, "");
	expect_no_event();
}

IN_DIR_CASE(equal_events_in_a_row_are_merged)
{
	write_file("f", "");
	int wd = watch("f", IN_MODIFY);
	int file = expect_ok(open("f", O_WRONLY));
	for (int i = 0; i < 5; i++)
		expect_eq(write(file, "x", 1), 1);
	expect_event(wd, IN_MODIFY, "");
	expect_no_event();
}

IN_DIR_CASE(oneshot_watch_reports_once_and_is_removed)
{
	write_file("f", "");
	int wd = watch("f", IN_ATTRIB | IN_ONESHOT);
	expect_ok(chmod("f", 0600));
	expect_ok(chmod("f", 0700));
	expect_event(wd, IN_ATTRIB, "");
	expect_event(wd, IN_IGNORED, "");
	expect_no_event();
}

IN_DIR_CASE(rm_watch_reports_ignored)
{
	int wd = watch(".", IN_CREATE);
	expect_ok(inotify_rm_watch(fd, wd));
	write_file("f", "");
	expect_event(wd, IN_IGNORED, "");
	expect_no_event();
}

IN_DIR_CASE(second_watch_of_the_same_inode_replaces_or_adds_to_the_mask)
{
	write_file("f", "");
	int wd = watch("f", IN_OPEN);
	expect_eq(watch("f", IN_ATTRIB), wd);
	expect_ok(close(expect_ok(open("f", O_RDONLY))));
	expect_no_event();
	expect_eq(watch("f", IN_OPEN | IN_MASK_ADD), wd);
	expect_ok(chmod("f", 0600));
	expect_event(wd, IN_ATTRIB, "");
	expect_errno(inotify_add_watch(fd, "f", IN_OPEN | IN_MASK_CREATE), EEXIST);
}

IN_DIR_CASE(onlydir_and_dont_follow)
{
	write_file("f", "");
	watch(".", IN_CREATE);
	expect_errno(inotify_add_watch(fd, "f", IN_OPEN | IN_ONLYDIR), ENOTDIR);
	expect_ok(symlink("missing", "l"));
	expect_errno(inotify_add_watch(fd, "l", IN_OPEN), ENOENT);
	expect_ok(inotify_add_watch(fd, "l", IN_ATTRIB | IN_DONT_FOLLOW));
}

IN_DIR_CASE(arguments_are_checked)
{
	expect_errno(inotify_init1(1), EINVAL);
	watch(".", IN_CREATE);
	expect_errno(inotify_add_watch(fd, ".", 0), EINVAL);
	expect_errno(inotify_add_watch(fd, "missing", IN_CREATE), ENOENT);
	expect_errno(inotify_add_watch(0x3fff, ".", IN_CREATE), EBADF);
	expect_errno(inotify_rm_watch(fd, 999), EINVAL);
	expect_errno(inotify_add_watch(expect_ok(open(".", O_RDONLY)), ".", IN_CREATE), EINVAL);
}

IN_DIR_CASE(buffer_too_small_for_an_event_is_einval)
{
	watch(".", IN_CREATE);
	write_file("name", "");
	expect_errno(read(fd, buffer, 16), EINVAL);
	int ready = 0;
	expect_ok(ioctl(fd, FIONREAD, &ready));
	expect_eq(ready, 32);
}

IN_DIR_CASE(poll_and_blocking_read_wait_for_events)
{
	int wd = watch(".", IN_CREATE);
	expect_eq(poll_one(fd, POLLIN, 0).revents, 0);
	pid_t pid;
	SPAWN(pid) {
		sleep_ms(20);
		write_file("f", "");
	}
	expect_eq(poll_one(fd, POLLIN, 5000).revents, POLLIN);
	expect_event(wd, IN_CREATE, "f");
	expect_exit(pid, 0);
}

IN_DIR_CASE(link_and_symlink_and_mknod_are_create)
{
	write_file("f", "");
	int wd = watch(".", IN_CREATE);
	expect_ok(link("f", "g"));
	expect_ok(symlink("f", "l"));
	expect_ok(mkfifo("p", 0600));
	expect_event(wd, IN_CREATE, "g");
	expect_event(wd, IN_CREATE, "l");
	expect_event(wd, IN_CREATE, "p");
}

IN_DIR_CASE(who_watches_the_directory_hears_first)
{
	expect_ok(mkdir("d", 0700));
	int above = watch(".", IN_ATTRIB);
	int own = watch("d", IN_ATTRIB);
	expect_ok(chmod("d", 0755));
	expect_event(above, IN_ATTRIB | IN_ISDIR, "d");
	expect_event(own, IN_ATTRIB | IN_ISDIR, "");
}

IN_DIR_CASE(a_lost_name_is_attrib_then_delete_self_then_delete)
{
	write_file("f", "");
	int above = watch(".", IN_DELETE);
	int own = watch("f", IN_ATTRIB | IN_DELETE_SELF);
	expect_ok(unlink("f"));
	expect_event(own, IN_ATTRIB, "");
	expect_event(own, IN_DELETE_SELF, "");
	expect_event(own, IN_IGNORED, "");
	expect_event(above, IN_DELETE, "f");
}

IN_DIR_CASE(fdinfo_lists_the_watches)
{
	char path[64], line[4096];
	write_file("f", "");
	int wd = watch("f", IN_MODIFY | IN_CLOSE_WRITE);
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	FILE *info = fopen(path, "r");
	expect(info != NULL);
	int number = -1;
	unsigned long ino = 0;
	unsigned dev, mask = 0;
	while (fgets(line, sizeof line, info))
		if (sscanf(line, "inotify wd:%x ino:%lx sdev:%x mask:%x", &number, &ino, &dev, &mask) == 4)
			break;
	fclose(info);
	struct stat st;
	expect_ok(stat("f", &st));
	expect_eq(number, wd);
	expect_eq(ino, st.st_ino);
	expect_eq(mask, IN_MODIFY | IN_CLOSE_WRITE);
}
