ls -laR /etc
