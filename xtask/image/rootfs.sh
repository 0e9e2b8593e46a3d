#!/bin/sh
# Makes an image's root file system: a program, the shared libraries that it needs, and what glibc and TLS read.
#
#     rootfs.sh PROGRAM FOLDER [LIBRARY...]
#
# The Dockerfiles and `cargo xtask images` both run this, so that an image is the same either way. LIBRARY is one that
# the program loads by itself (CUDA's): it goes beside libtorch.
#
#     /usr/local/bin/PROGRAM      the program, stripped
#     /usr/local/lib              libraries that are not the system's (libtorch): found by the program's own RPATH
#     /usr/lib/..., /usr/lib64    the system's, by their own paths
#     /etc, /tmp                  names, trusted certificates, a place to write
set -eu
umask 022

if [ $# -lt 2 ]; then
    echo "usage: rootfs.sh PROGRAM FOLDER [LIBRARY...]" >&2
    exit 64
fi
program=$1
root=$2
shift 2

mkdir -p "$root/usr/local/bin" "$root/usr/local/lib" "$root/usr/lib" "$root/usr/lib64" "$root/etc/ssl/certs"
# As in today's distributions: old paths of libraries, the loader's among them, lead below /usr.
ln -sfn usr/lib "$root/lib"
ln -sfn usr/lib64 "$root/lib64"

strip -o "$root/usr/local/bin/$(basename "$program")" "$program"
chmod 0755 "$root/usr/local/bin/$(basename "$program")"

# A file with all that its name leads to. Its mode is set, since packages differ in theirs.
library() {
    case $1 in
        /lib/*|/lib64/*|/usr/lib/*|/usr/lib64/*) place=/usr/${1#/usr/} ;;
        *) place=/usr/local/lib/$(basename "$1") ;;
    esac
    place=$(echo "$place" | sed 's#^/usr//#/usr/#')
    if [ ! -e "$root$place" ]; then
        mkdir -p "$(dirname "$root$place")"
        cp -L "$1" "$root$place"
        chmod 0755 "$root$place"
    fi
}

for file in "$program" "$@"; do
    # `name => path (address)`, or the loader's own path without an arrow. What is not found ends this: an image that
    # can't start is found out too late.
    needed=$(ldd "$file")
    if echo "$needed" | grep -q 'not found'; then
        echo "$file needs libraries that are not here:" >&2
        echo "$needed" | grep 'not found' >&2
        exit 1
    fi
    echo "$needed" | sed -n -e 's#.*=> \(/[^ ]*\) (.*#\1#p' -e 's#^[[:space:]]*\(/[^ ]*\) (.*#\1#p' | while read -r path; do
        library "$path"
    done
    [ "$file" = "$program" ] || library "$file"
done

echo 'root:x:0:0:root:/:/sbin/nologin
nonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin' > "$root/etc/passwd"
echo 'root:x:0:
nonroot:x:65532:' > "$root/etc/group"
# Without it glibc asks DNS before /etc/hosts, where Kubernetes writes a pod's own name.
echo 'hosts: files dns' > "$root/etc/nsswitch.conf"
# Mozilla's certificates as packaged, not this machine's own additions.
if [ ! -d /usr/share/ca-certificates/mozilla ]; then
    echo "the package ca-certificates is missing: an image without it could reach no S3 server" >&2
    exit 1
fi
cat /usr/share/ca-certificates/mozilla/*.crt > "$root/etc/ssl/certs/ca-certificates.crt"
mkdir -p "$root/tmp"
chmod 1777 "$root/tmp"
