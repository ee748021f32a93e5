# Runs a command on a picture of this host: its files, with a package's laid over them, and nothing that is written stays.
# To be run in mount and process namespaces of its own.
#
#   jail.sh FOLDER PACKAGE USERS COMMAND     FOLDER is seen as /srv; PACKAGE may be empty
set -e
folder=$1 package=$2 users=$3 command=$4
jail=$folder/jail
mkdir "$jail"
mount -t tmpfs tmpfs "$jail"
mkdir "$jail/upper" "$jail/work" "$jail/root" "$jail/upper/etc"
[ -z "$package" ] || cp -a "$package/." "$jail/upper/"
cp /etc/passwd /etc/group "$jail/upper/etc/"
number=64000
for name in $users; do
    number=$((number + 1))
    echo "$name:x:$number:$number::/nonexistent:/bin/false" >>"$jail/upper/etc/passwd"
    echo "$name:x:$number:" >>"$jail/upper/etc/group"
done
mount -t overlay overlay -o "lowerdir=/,upperdir=$jail/upper,workdir=$jail/work" "$jail/root"
mkdir -p "$jail/root/srv"
mount --bind "$folder" "$jail/root/srv"
mount --rbind /dev "$jail/root/dev"
mount -t proc proc "$jail/root/proc"
# Not by exec: the death of its parent ends the first process of the namespace, and with it all others, unless it has become another user.
chroot "$jail/root" sh -c "$command"
