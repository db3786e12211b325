from busybox
run echo "a  b"   c
env key value with  blanks
label k v
cmd
onbuild copy . /x
expose 8000-8002/tcp
volume ["/a", "/b c"]
