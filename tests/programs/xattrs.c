/* Extended attributes. */
#include "case.h"
#include <sys/xattr.h>

/* A file which takes user attributes. */
static void make(void)
{
	write_file("f", "");
	if (setxattr("f", "user.probe", "", 0, 0) == -1) {
		if (errno == EOPNOTSUPP)
			skip("the file system has no user attributes");
		fail("setxattr");
	}
	expect_ok(removexattr("f", "user.probe"));
}

IN_DIR_CASE(value_is_kept_byte_for_byte)
{
	char got[8];
	make();
	expect_ok(setxattr("f", "user.a", "x\0y", 3, 0));
	expect_eq(getxattr("f", "user.a", got, sizeof got), 3);
	expect_mem(got, "x\0y", 3);
	expect_ok(setxattr("f", "user.a", "", 0, 0));
	expect_eq(getxattr("f", "user.a", got, sizeof got), 0);
}

IN_DIR_CASE(size_zero_asks_for_the_length_and_small_is_erange)
{
	char got[8];
	make();
	expect_ok(setxattr("f", "user.a", "hello", 5, 0));
	expect_eq(getxattr("f", "user.a", NULL, 0), 5);
	expect_errno(getxattr("f", "user.a", got, 4), ERANGE);
}

IN_DIR_CASE(missing_attribute_is_enodata)
{
	char got[8];
	make();
	expect_errno(getxattr("f", "user.none", got, 8), ENODATA);
	expect_errno(removexattr("f", "user.none"), ENODATA);
}

IN_DIR_CASE(create_and_replace_flags)
{
	make();
	expect_errno(setxattr("f", "user.a", "1", 1, XATTR_REPLACE), ENODATA);
	expect_ok(setxattr("f", "user.a", "1", 1, XATTR_CREATE));
	expect_errno(setxattr("f", "user.a", "2", 1, XATTR_CREATE), EEXIST);
	expect_ok(setxattr("f", "user.a", "2", 1, XATTR_REPLACE));
	expect_errno(setxattr("f", "user.a", "2", 1, 8), EINVAL);
}

IN_DIR_CASE(list_holds_each_name_with_its_terminator)
{
	char list[256];
	make();
	ssize_t before = expect_ok(listxattr("f", list, sizeof list));
	expect_ok(setxattr("f", "user.a", "1", 1, 0));
	expect_ok(setxattr("f", "user.bb", "2", 1, 0));
	ssize_t size = expect_ok(listxattr("f", list, sizeof list));
	expect_eq(size, before + 7 + 8);
	expect(memmem(list, size, "user.a", 7) && memmem(list, size, "user.bb", 8));
	expect_eq(listxattr("f", NULL, 0), size);
	expect_errno(listxattr("f", list, 5), ERANGE);
}

IN_DIR_CASE(remove_takes_the_name_off_the_list)
{
	char list[256];
	make();
	ssize_t before = expect_ok(listxattr("f", list, sizeof list));
	expect_ok(setxattr("f", "user.a", "1", 1, 0));
	expect_ok(removexattr("f", "user.a"));
	expect_eq(listxattr("f", list, sizeof list), before);
}

IN_DIR_CASE(descriptor_forms_reach_the_same_attributes)
{
	char got[8], list[256];
	make();
	int fd = expect_ok(open("f", O_RDONLY));
	expect_ok(fsetxattr(fd, "user.a", "v", 1, 0));
	expect_eq(getxattr("f", "user.a", got, 8), 1);
	expect_eq(fgetxattr(fd, "user.a", got, 8), 1);
	expect(flistxattr(fd, list, sizeof list) >= 7);
	expect_ok(fremovexattr(fd, "user.a"));
	expect_errno(fgetxattr(fd, "user.a", got, 8), ENODATA);
	expect_errno(fgetxattr(expect_ok(open("f", O_PATH)), "user.a", got, 8), EBADF);
}

IN_DIR_CASE(name_is_checked)
{
	char name[300] = "user.";
	make();
	expect_errno(setxattr("f", "nonamespace", "1", 1, 0), EOPNOTSUPP);
	expect_errno(setxattr("f", "", "1", 1, 0), ERANGE);
	expect_errno(setxattr("f", "user.", "1", 1, 0), EINVAL);
	memset(name + 5, 'n', 251);
	expect_errno(setxattr("f", name, "1", 1, 0), ERANGE);
}

IN_DIR_CASE(value_over_64_kib_is_e2big)
{
	static char value[65537];
	make();
	expect_errno(setxattr("f", "user.a", value, sizeof value, 0), E2BIG);
}

IN_DIR_CASE(user_attributes_of_symlinks_are_eperm)
{
	make();
	expect_ok(symlink("f", "l"));
	expect_errno(lsetxattr("l", "user.a", "1", 1, 0), EPERM);
	expect_ok(setxattr("l", "user.a", "1", 1, 0));
	expect_eq(getxattr("f", "user.a", NULL, 0), 1);
}

IN_DIR_CASE(directories_have_attributes)
{
	make();
	expect_ok(mkdir("d", 0700));
	expect_ok(setxattr("d", "user.a", "1", 1, 0));
	expect_eq(getxattr("d", "user.a", NULL, 0), 1);
}

IN_DIR_CASE(attributes_need_the_matching_permission)
{
	be_ordinary();
	char got[8];
	make();
	expect_ok(setxattr("f", "user.a", "1", 1, 0));
	expect_ok(chmod("f", 0400));
	expect_errno(setxattr("f", "user.a", "2", 1, 0), EACCES);
	expect_eq(getxattr("f", "user.a", got, 8), 1);
	expect_ok(chmod("f", 0200));
	expect_errno(getxattr("f", "user.a", got, 8), EACCES);
}

IN_DIR_CASE(trusted_attributes_need_privilege)
{
	be_ordinary();
	make();
	expect_errno(setxattr("f", "trusted.a", "1", 1, 0), EPERM);
	expect_errno(getxattr("f", "trusted.a", NULL, 0), ENODATA);
}

IN_DIR_CASE(attributes_follow_a_rename)
{
	make();
	expect_ok(setxattr("f", "user.a", "1", 1, 0));
	expect_ok(rename("f", "g"));
	expect_eq(getxattr("g", "user.a", NULL, 0), 1);
	expect_errno(getxattr("f", "user.a", NULL, 0), ENOENT);
}
