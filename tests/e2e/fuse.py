"""A file system of one file whose disk can be made to fail: reads of a range of it give EIO from then on, mapped pages included.

It speaks the kernel's FUSE protocol (include/uapi/linux/fuse.h) by itself: no library is needed, but /dev/fuse and the right to mount are. It is served by
a process of its own: a thread would wait for this process while this process waits for a program to start from the file system.
"""
import ctypes
import errno
import mmap
import os
import signal
import stat
import struct

LIBC = ctypes.CDLL(None, use_errno=True)
LOOKUP, FORGET, GETATTR, OPEN, READ, RELEASE, FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR, INTERRUPT, BATCH_FORGET = \
    1, 2, 3, 14, 15, 18, 25, 26, 27, 28, 29, 36, 42
NOTIFY_INVAL_INODE = 2
ROOT, FILE = 1, 2
FOREVER = 3600


class FailingDisk:
    """`with FailingDisk(folder, "weights", path) as disk:` shows the bytes of `path` as folder/weights."""

    def __init__(self, folder, name, source):
        self.folder, self.name = folder, name.encode()
        self.data = open(source, "rb").read()
        self.mode = os.stat(source).st_mode & 0o777
        self.shared = mmap.mmap(-1, 16)   # the range that is broken, as the server sees it

    @property
    def path(self):
        return os.path.join(self.folder, self.name.decode())

    def __enter__(self):
        self.device = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self.device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
        if LIBC.mount(b"failing", self.folder.encode(), b"fuse", 0, options.encode()):
            os.close(self.device)
            raise OSError(ctypes.get_errno(), "mount: " + os.strerror(ctypes.get_errno()))
        self.server = os.fork()
        if not self.server:
            try:
                signal.signal(signal.SIGTERM, lambda *_: self.unmount())
                LIBC.prctl(1, signal.SIGTERM)                              # PR_SET_PDEATHSIG: a test that is killed leaves no mount
                self.serve()
            finally:
                os._exit(0)
        return self

    def unmount(self):
        LIBC.umount2(self.folder.encode(), 2)                              # MNT_DETACH

    def __exit__(self, *_):
        self.unmount()
        os.close(self.device)
        os.waitpid(self.server, 0)

    def break_at(self, start, end=None):
        """From now on [start, end) cannot be read, and what the system had kept of the file is forgotten."""
        self.shared[:] = struct.pack("<QQ", start, end or len(self.data))
        try:
            os.write(self.device, struct.pack("<IiQQqq", 40, NOTIFY_INVAL_INODE, 0, FILE, 0, 0))
        except FileNotFoundError:
            pass                                                           # nobody has asked for it yet

    # ---- the protocol

    def attributes(self, node):
        folder = node == ROOT
        size, mode = (0, stat.S_IFDIR | 0o755) if folder else (len(self.data), stat.S_IFREG | self.mode)
        return struct.pack("<QQQQQQIIIIIIIIII", node, size, (size + 511) // 512, 1, 1, 1, 0, 0, 0, mode, 1, os.getuid(), os.getgid(), 0, 4096, 0)

    def answer(self, code, node, body):
        """An errno, or the bytes of the answer; None: there is none."""
        if code == INIT:
            major, minor, ahead = struct.unpack_from("<III", body)
            return struct.pack("<IIIIHHIIHHIIIIIIII", 7, min(minor, 31), ahead, 0, 16, 12, 1 << 17, 1, *(0,) * 10)
        if code == LOOKUP:
            if body.rstrip(b"\0") != self.name:
                return errno.ENOENT
            return struct.pack("<QQQQII", FILE, 0, FOREVER, FOREVER, 0, 0) + self.attributes(FILE)
        if code == GETATTR:
            return struct.pack("<QII", FOREVER, 0, 0) + self.attributes(node)
        if code in (OPEN, OPENDIR):
            return struct.pack("<QII", 0, 2 if code == OPEN else 0, 0)   # 2: what is kept of the file stays good
        if code == READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            start, end = struct.unpack("<QQ", self.shared[:])
            if offset < end and offset + size > start:
                return errno.EIO
            return self.data[offset:offset + size]
        if code == READDIR:
            return b""
        if code in (RELEASE, RELEASEDIR, FLUSH):
            return b""
        return None if code in (FORGET, BATCH_FORGET, INTERRUPT) else errno.ENOSYS

    def serve(self):
        while True:
            try:
                request = os.read(self.device, 1 << 18)
            except OSError as failure:
                if failure.errno in (errno.EINTR, errno.ENOENT):
                    continue
                return                                                     # unmounted
            _, code, unique, node = struct.unpack_from("<IIQQ", request)
            answer = self.answer(code, node, request[40:])
            if answer is None:
                continue
            failed, body = (-answer, b"") if isinstance(answer, int) else (0, answer)
            try:
                os.write(self.device, struct.pack("<IiQ", 16 + len(body), failed, unique) + body)
            except OSError:
                pass                                                       # whoever asked is gone
