"""Archives for the tests of builder/src/source/archive: good ones by several tools, hostile ones, large ones."""
import gzip, io, os, stat, struct, subprocess, sys, tarfile, warnings, zipfile

mode, out = sys.argv[1:]
warnings.simplefilter("ignore")
table = []


def at(name):
    return os.path.join(out, name)


def write(name, data):
    with open(at(name), "wb") as file:
        file.write(data)


def robot():
    root = at("robot")
    os.makedirs(root + "/lib")
    os.makedirs(root + "/empty")
    for name, text, bits in [
        ("robot.yaml", "tasks: {}\n", 0o644),
        ("lib/run.sh", "#!/bin/sh\n", 0o755),
        ("task.py", "print('hello')\n", 0o644),
        ("ünï", "xyz", 0o600),
    ]:
        with open(f"{root}/{name}", "w") as file:
            file.write(text)
        os.chmod(f"{root}/{name}", bits)
    os.symlink("lib/run.sh", root + "/link")
    return root


def walk(root):
    for folder, folders, files in os.walk(root):
        for name in sorted(folders) + sorted(files):
            path = os.path.join(folder, name)
            yield path, os.path.relpath(path, root)


def zipped(name, root, pack, how=zipfile.ZIP_DEFLATED, **options):
    with zipfile.ZipFile(at(name), "w", how) as archive:
        for path, inside in walk(root):
            info = zipfile.ZipInfo(inside, (2020, 1, 1, 0, 0, 0))
            info.external_attr = os.lstat(path).st_mode << 16
            info.compress_type = how
            if os.path.islink(path):
                archive.writestr(info, os.readlink(path))
            elif os.path.isdir(path):
                info.filename += "/"
                archive.writestr(info, "")
            else:
                with open(path, "rb") as file:
                    pack(archive, info, file.read(), **options)


def plain(archive, info, data):
    archive.writestr(info, data)


def streamed(archive, info, data, large=False):
    with archive.open(info, "w", force_zip64=large) as entry:
        entry.write(data)


class Unseekable(io.RawIOBase):
    """Makes zipfile write the sizes after the data, as tools in a pipe do."""

    def __init__(self, name):
        self.file = open(at(name), "wb")

    def writable(self):
        return True

    def write(self, data):
        return self.file.write(data)

    def close(self):
        self.file.close()
        super().close()


def good():
    root = robot()
    for form in [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]:
        with tarfile.open(at(f"python-{form}.tar"), "w", format=form) as archive:
            for path, inside in walk(root):
                archive.add(path, inside, recursive=False)
    for form in ["gnu", "pax", "ustar"]:
        subprocess.run(["tar", f"--format={form}", "-czf", at(f"tar-{form}.tar.gz"), "-C", root, "."], check=True)
    subprocess.run(["tar", "-cf", at("inside.tar"), "-C", root, "."], check=True)
    subprocess.run(["tar", "-czf", at("folder.tar.gz"), "-C", out, "robot"], check=True)
    data = open(at("inside.tar"), "rb").read()
    half = len(data) // 2
    write("members.tar.gz", gzip.compress(data[:half]) + gzip.compress(data[half:]))
    zipped("deflated.zip", root, plain)
    zipped("stored.zip", root, plain, zipfile.ZIP_STORED)
    zipped("large.zip", root, lambda *a: streamed(*a, large=True))
    with zipfile.ZipFile(Unseekable("piped.zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for path, inside in walk(root):
            info = zipfile.ZipInfo(inside + ("/" if os.path.isdir(path) and not os.path.islink(path) else ""))
            info.external_attr = os.lstat(path).st_mode << 16
            data = os.readlink(path).encode() if os.path.islink(path) else b"" if os.path.isdir(path) else open(path, "rb").read()
            archive.writestr(info, data)
    with zipfile.ZipFile(at("comment.zip"), "w") as archive:
        archive.comment = b"a comment with PK\x05\x06 inside"
        for path, inside in walk(root):
            info = zipfile.ZipInfo(inside + ("/" if os.path.isdir(path) and not os.path.islink(path) else ""))
            info.external_attr = os.lstat(path).st_mode << 16
            data = os.readlink(path).encode() if os.path.islink(path) else b"" if os.path.isdir(path) else open(path, "rb").read()
            archive.writestr(info, data)


def tar_of(entries):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, kind, target in entries:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind in (tarfile.REGTYPE, tarfile.GNUTYPE_SPARSE):
                info.size = 3
                archive.addfile(info, io.BytesIO(b"abc"))
            else:
                info.linkname = target
                archive.addfile(info)
    return buffer.getvalue()


def zip_of(names, how=zipfile.ZIP_STORED, mode=0o100644):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as archive:
        for name in names:
            info = zipfile.ZipInfo("x")
            info.filename = name
            info.external_attr = mode << 16
            info.compress_type = how
            archive.writestr(info, "abc" * 100)
    return buffer.getvalue()


def refuse(name, data, said, reason="SourceRejected"):
    write(name, data)
    table.append(f"{name}\t{reason}\t{said}")


def hostile():
    file, link, hard = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
    folder = tarfile.DIRTYPE
    for name, entries, said in [
        ("up", [("../x", file, "")], '"../x", a name that leads out'),
        ("up-inside", [("a/../../x", file, "")], "leads out"),
        ("absolute", [("/tmp/x", file, "")], '"/tmp/x", an absolute name'),
        ("link-absolute", [("l", link, "/etc/passwd")], '"l", a link that leads out'),
        ("link-up", [("a/l", link, "../../x")], '"a/l", a link that leads out'),
        ("link-through", [("d", link, "."), ("l", link, "d/../x")], "goes up behind"),
        ("link-then-file", [("d", link, "/tmp"), ("d/x", file, "")], '"d", a link'),
        ("link-then-below", [("e/f", file, ""), ("d", link, "e"), ("d/x", file, "")], '"d/x", a name that stands for a folder'),
        ("hard", [("a", file, ""), ("b", hard, "a")], '"b", a hard link'),
        ("character", [("c", tarfile.CHRTYPE, "")], '"c", a device'),
        ("block", [("b", tarfile.BLKTYPE, "")], '"b", a device'),
        ("fifo", [("f", tarfile.FIFOTYPE, "")], '"f", a FIFO'),
        ("sparse", [("s", tarfile.GNUTYPE_SPARSE, "")], '"s", a file with its holes'),
        ("kind", [("k", b"Z", "")], '"k", an entry of a kind'),
        ("twice", [("a", file, ""), ("./a", file, "")], '"./a", a name that it has twice'),
        ("case", [("Read", file, ""), ("read", file, "")], '"read", a name that differs'),
        ("case-unicode", [("Ä", file, ""), ("ä", file, "")], "a name that differs"),
        ("case-folder", [("A/x", file, ""), ("a/y", file, "")], '"a/y", a name that differs'),
        ("below-file", [("a", file, ""), ("a/b", file, "")], '"a/b", a name that stands'),
        ("folder-file", [("a", folder, ""), ("a", file, "")], '"a", a name that stands'),
        ("utf8", [("\udcff", file, "")], "not UTF-8"),
        ("component", [("x" * 256, file, "")], "longer than 255 bytes"),
        ("path", [("/".join(["x" * 200] * 18), file, "")], "longer than 3500 bytes"),
        ("deep", [("/".join(["x"] * 140), file, "")], "below 128 others"),
        ("whiteout", [(".wh.x", file, "")], "image layers reserve"),
        ("dot-git", [(".GIT/config", file, "")], "stands for .git"),
        ("control", [("../\x1b[31m\n", file, "")], "leads out"),
    ]:
        refuse(name + ".tar", tar_of(entries), said)
    tar = tar_of([("a", file, ""), ("b", file, "")])
    packed = gzip.compress(tar, mtime=0)
    for name, data, said in [
        ("cut", tar[:1000], "is cut off"),
        ("no-end", tar[:2048], 'is cut off after "b": its end is missing'),
        ("garbage", tar + b"x", "other bytes after its end"),
        ("checksum", tar[:1024] + b"z" + tar[1025:], "cannot be read after \"a\""),
        ("cut-gzip", packed[:-9], "is cut off"),
        ("garbage-gzip", packed + b"garbage" * 4, "cannot be read"),
        ("crc-gzip", packed[:-8] + bytes(4) + packed[-4:], "cannot be read"),
        ("page", b"<!DOCTYPE html>" + b" " * 600, "is a web page"),
        ("text", b"hello" * 200, "is no archive"),
        ("nothing", b"", "is empty"),
        ("bzip2", b"BZh91AY&SY", "bzip2"),
        ("xz", b"\xfd7zXZ\0", "xz"),
    ]:
        refuse(name, data, said)
    for name, names, said in [
        ("up", ["../x"], '"../x", a name that leads out'),
        ("absolute", ["/x"], "an absolute name"),
        ("twice", ["a", "a"], '"a", a name that it has twice'),
        ("case", ["A", "a"], '"a", a name that differs'),
        ("backslash", ["a\\b"], "a backslash"),
        ("folder", ["a/"], "a folder with content"),
        ("below", ["a", "a/b"], "a name that stands"),
    ]:
        refuse(name + ".zip", zip_of(names), said)
    for name, bits, said in [
        ("fifo", stat.S_IFIFO, "a FIFO"),
        ("device", stat.S_IFCHR, "a device"),
        ("socket", stat.S_IFSOCK, "of a kind"),
        ("link", stat.S_IFLNK, "no path"),
    ]:
        data = zip_of(["e"], mode=bits | 0o644)
        if name == "link":
            data = data.replace(b"abc" * 100, b"/etc/passwd".ljust(300, b"\0"))
            data = fix_crc(data, b"/etc/passwd".ljust(300, b"\0"))
        refuse(name + "-mode.zip", data, said)
    one = bytearray(zip_of(["a"]))
    central = one.index(b"PK\x01\x02")
    end = one.index(b"PK\x05\x06")

    def changed(*changes):
        data = bytearray(one)
        for place, form, value in changes:
            struct.pack_into("<" + form, data, place, value)
        return bytes(data)

    second = bytes(one[central:end])
    double = bytearray(bytes(one[:end]) + second + bytes(one[end:]))
    struct.pack_into("<HHL", double, end + len(second) + 8, 2, 2, 2 * len(second))
    for name, data, said in [
        ("encrypted", changed((6, "H", 1), (central + 8, "H", 1)), '"a", an encrypted file'),
        ("method", zip_of(["a"], zipfile.ZIP_BZIP2), '"a", a file packed by method 12'),
        ("crc", changed((central + 16, "L", 7)), 'the checksum of "a" is wrong'),
        ("size-less", changed((central + 24, "L", 3)), 'says that "a" has 3 bytes'),
        ("size-more", changed((central + 24, "L", 301)), 'says that "a" has 301 bytes'),
        ("packed-less", changed((central + 20, "L", 200)), 'says that "a" has 300 bytes'),
        ("local-name", bytes(one[:30]) + b"b" + bytes(one[31:]), '"a", a file whose two headers'),
        ("local-method", changed((8, "H", 8)), '"a", a file whose two headers'),
        ("local-encrypted", changed((6, "H", 1)), '"a", a file whose two headers'),
        ("offset", changed((central + 42, "L", 1000)), "overlap"),
        ("overlap", bytes(double), "overlap"),
        ("count", changed((end + 8, "H", 2), (end + 10, "H", 2)), "another number of entries"),
        ("parts", changed((end + 4, "H", 1)), "one of several parts"),
        ("prefix", b"PK\x03\x04" + bytes(20) + bytes(one), "other bytes before it"),
        ("garbage", bytes(one) + b"x", "other bytes after its end"),
        ("cut", bytes(one[:-30]), "is cut off"),
        ("directory", changed((central, "L", 0)), "a damaged directory"),
        ("zip64", changed((central + 24, "L", 0xFFFFFFFF)), "a damaged directory"),
    ]:
        refuse("bytes-" + name + ".zip", data, said)


def fix_crc(data, content):
    import zlib

    data = bytearray(data)
    for place in (14, data.index(b"PK\x01\x02") + 16):
        struct.pack_into("<L", data, place, zlib.crc32(content))
    return bytes(data)


def odd():
    names = [".git/config", "a", "sub/.git"]
    write("git.tar", tar_of([(name, tarfile.REGTYPE, "") for name in names]))
    write("git.zip", zip_of(names))


def large():
    zeros = tarfile.TarInfo("zeros")
    zeros.size = 64 << 20
    with tarfile.open(at("bomb.tar"), "w") as archive:
        archive.addfile(zeros, open("/dev/zero", "rb"))
    subprocess.run(["gzip", "-k", at("bomb.tar")], check=True)
    # A frame of one block that stands for a whole one, again and again: 128 KiB in four bytes.
    data = open(at("bomb.tar"), "rb").read()
    frame = b"\x28\xb5\x2f\xfd" + bytes([0x00, 0x58])
    def raw(block):
        return struct.pack("<L", len(block) << 3)[:3] + block
    def run(length):
        return struct.pack("<L", 2 | length << 3)[:3] + b"\0"
    blocks = [raw(data[:512])] + [run(1 << 17)] * ((64 << 20) // (1 << 17)) + [struct.pack("<L", 1)[:3]]
    write("bomb.tar.zst", frame + b"".join(blocks))
    os.remove(at("bomb.tar"))
    with zipfile.ZipFile(at("bomb.zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(64 << 20))
    with tarfile.open(at("many.tar.gz"), "w:gz") as archive:
        for number in range(20000):
            archive.addfile(tarfile.TarInfo(f"f{number}"))
    with zipfile.ZipFile(at("many.zip"), "w") as archive:
        for number in range(20000):
            archive.writestr(f"f{number}", "")
    with tarfile.open(at("deep.tar.gz"), "w:gz") as archive:
        for number in range(50):
            archive.addfile(tarfile.TarInfo(f"{number}/" + "/".join("x" * 100)))


{"good": good, "hostile": hostile, "odd": odd, "large": large}[mode]()
if table:
    write("expected", ("\n".join(table) + "\n").encode())
