#!/bin/sh
# Makes an image's root file system: a program, the shared libraries that it needs, and what glibc and TLS read.
#
#     rootfs.sh PROGRAM FOLDER [SHIM LIBTORCH]
#
# The Dockerfiles and `cargo xtask images` both run this, so that an image is the same either way. SHIM is our CUDA
# library and LIBTORCH the folder that contains torch/ and nvidia/: with them the image also gets everything that libtorch,
# cuDNN and NCCL load by name, and the libraries by which NCCL uses InfiniBand and RoCE.
#
#     /usr/local/bin/PROGRAM      the program, stripped
#     /usr/local/lib              libraries that are not the system's (libtorch): found by the program's own RPATH
#     /usr/lib/..., /usr/lib64    the system's, by their own paths
#     /etc, /tmp                  names, trusted certificates, a place to write
#
# ROOTFS_LINK=1 links libtorch's files where it can instead of copying them, for tests.
set -eu
umask 022

if [ $# -ne 2 ] && [ $# -ne 4 ]; then
    echo "usage: rootfs.sh PROGRAM FOLDER [SHIM LIBTORCH]" >&2
    exit 64
fi
program=$1
root=$2
shim=${3:-}
libtorch=${4:-}

# NVIDIA's container toolkit mounts these from the host's driver.
driver='libcuda\.so\.1|libnvidia-ml\.so\.1'
# What no training uses, or what needs libraries of other transports: the NVSHMEM plugins and cuFile over RDMA (MPI, UCX,
# libfabric, PMIx), profilers, the BLAS and FFTW stand-ins, the cuSOLVER for several GPUs, PyTorch's loader stub.
unused='nvshmem_bootstrap_|nvshmem_transport_|libcufile_rdma\.|libnvperf_|libcheckpoint\.|libpcsamplingutil\.'
unused="$unused|libnvblas\.|libcufftw\.|libnvtx3interop\.|libcusolverMg\.|libtorch_global_deps\."

# The libraries of the image besides those that the program links.
extra=$(mktemp)
trap 'rm -f "$extra"' EXIT
if [ -n "$shim" ]; then
    for file in "$shim" "$libtorch/torch/lib/libtorch_cuda.so" "$libtorch/torch/lib/libtorch_cuda_linalg.so" \
        "$libtorch/torch/lib/libcaffe2_nvrtc.so"; do
        if [ ! -s "$file" ]; then
            echo "$file is missing: without it the image could not train on a GPU" >&2
            exit 1
        fi
    done
    echo "$shim" > "$extra"
    find -L "$libtorch/torch/lib" "$libtorch/nvidia" -type f -name '*.so*' | grep -Ev "/($unused)" | sort >> "$extra"
    # NCCL opens these by name and falls back to TCP, many times slower, if they are missing.
    system=$(dirname "$(ldconfig -p | sed -n 's#.*libibverbs\.so\.1 (libc6,x86-64).* => ##p' | head -1)")
    if [ ! -e "$system/libibverbs.so.1" ] || [ ! -e "$system/libmlx5.so.1" ] || [ ! -d /etc/libibverbs.d ]; then
        echo "the packages libibverbs1 and ibverbs-providers are missing: without them NCCL would use TCP" >&2
        exit 1
    fi
    find "$system" -maxdepth 1 \( -name 'libibverbs.so.1' -o -name 'libmlx5.so.1' -o -name 'libmlx4.so.1' \
        -o -name 'libefa.so.1' -o -name 'libmana.so.1' \) >> "$extra"
    find "$system/libibverbs" -name '*.so' >> "$extra"
    mkdir -p "$root/etc"
    cp -r /etc/libibverbs.d "$root/etc/"
    LD_LIBRARY_PATH=$(find -L "$libtorch/torch/lib" "$libtorch/nvidia" -type d -name lib | tr '\n' ':')
    export LD_LIBRARY_PATH
fi

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
        case ${ROOTFS_LINK:-}$place in
            1/usr/local/lib/*) ln "$(readlink -f "$1")" "$root$place" 2>/dev/null || cp -L "$1" "$root$place" ;;
            *) cp -L "$1" "$root$place"; chmod 0755 "$root$place" ;;
        esac
    fi
}

{ echo "$program"; cat "$extra"; } | while read -r file; do
    # `name => path (address)`, or the loader's own path without an arrow. What is not found ends this: an image that
    # can't start is found out too late.
    needed=$(ldd "$file")
    if echo "$needed" | grep 'not found' | grep -Evq "^[[:space:]]*($driver) "; then
        echo "$file needs libraries that are not here:" >&2
        echo "$needed" | grep 'not found' | grep -Ev "^[[:space:]]*($driver) " >&2
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
