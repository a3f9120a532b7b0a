tar c /usr/include | sha256sum
