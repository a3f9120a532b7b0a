# 1,000 commits, gc, clone, fsck.
# needs: git
export GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000'
git config --global user.name u; git config --global user.email u@example.org; git config --global init.defaultBranch main
git init -q r && cd r || exit 1
i=0; while [ $i -lt 1000 ]; do i=$((i+1)); echo "line $i" >>"f$((i % 50))"; git add -A; git commit -q -m "commit $i"; done
git gc -q; git fsck 2>&1; git log --oneline | wc -l; git rev-parse HEAD
git status --porcelain; git clone -q . ../c && git -C ../c rev-parse HEAD && git -C ../c log --stat | sha256sum
