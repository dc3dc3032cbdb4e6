"""Makes a small conda channel (linux-64 and noarch) from the CPython that runs this script and wheels from PyPI.

    python3 conda_channel.py OUT

A real micromamba solves and installs from it: python, pip, setuptools, wheel. The python package carries every shared
library that it needs and finds it by a path relative to itself, as conda's own does; otherwise an environment works
on the machine that made it and nowhere else. The same input gives the same bytes.
Needs patchelf, strip and ldd, and a CPython with the usual layout (pyenv, python.org; not Debian's dist-packages).
"""
import bz2
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile

STAMP = 1700000000
VERSION = "%d.%d.%d" % sys.version_info[:3]
PYTHON = "python%d.%d" % sys.version_info[:2]
# Not needed by robots, and large.
LEFT_OUT = {"__pycache__", "test", "tests", "idlelib", "turtledemo", "tkinter", "ensurepip", "lib2to3", "site-packages"}
# Libraries of the C library itself come from the image that the environment runs in.
SYSTEM = ("libc.so", "libm.so", "libpthread", "libdl.so", "libutil.so", "librt.so", "ld-linux", "linux-vdso",
          "libresolv", "libnsl")
WHEELS = (
    ("pip", "23.2.1", ["setuptools", "wheel"], ["pip = pip._internal.cli.main:main", "pip3 = pip._internal.cli.main:main"]),
    ("setuptools", "68.2.2", [], []),
    ("wheel", "0.41.3", [], ["wheel = wheel.cli:main"]),
)


def files_below(root, prefix=""):
    """(path in the package, path on disk), in a fixed order."""
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            yield os.path.join(prefix, os.path.relpath(path, root)), path


def member(name, size=0, mode=0o644):
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, mode, STAMP
    return info


class Channel:
    def __init__(self, out):
        self.out = out
        self.records = {"linux-64": {}, "noarch": {}}

    def add(self, subdir, name, version, build, files, depends, entry_points=None, prefix=None):
        index = dict(name=name, version=version, build=build, build_number=0, depends=depends, subdir=subdir,
                     timestamp=STAMP * 1000, license="see the project")
        if entry_points is not None:
            index["noarch"] = "python"
        paths, rewritten, payload = [], [], io.BytesIO()
        with tarfile.open(fileobj=payload, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for arc, path in files:
                if os.path.islink(path):
                    info = member(arc, mode=0o777)
                    info.type, info.linkname = tarfile.SYMTYPE, os.readlink(path)
                    tar.addfile(info)
                    paths.append(dict(_path=arc, path_type="softlink", sha256=hashlib.sha256(b"").hexdigest(), size_in_bytes=0))
                    continue
                with open(path, "rb") as source:
                    data = source.read()
                tar.addfile(member(arc, len(data), 0o755 if os.access(path, os.X_OK) else 0o644), io.BytesIO(data))
                entry = dict(_path=arc, path_type="hardlink", sha256=hashlib.sha256(data).hexdigest(), size_in_bytes=len(data))
                if prefix and prefix.encode() in data and b"\0" not in data:
                    entry.update(prefix_placeholder=prefix, file_mode="text")
                    rewritten.append("%s text %s" % (prefix, arc))
                paths.append(entry)
        info_files = {
            "index.json": json.dumps(index, sort_keys=True),
            "paths.json": json.dumps(dict(paths=paths, paths_version=1), sort_keys=True),
            "files": "".join(entry["_path"] + "\n" for entry in paths),
        }
        if rewritten:
            info_files["has_prefix"] = "\n".join(rewritten) + "\n"
        if entry_points is not None:
            noarch = dict(type="python", entry_points=entry_points)
            info_files["link.json"] = json.dumps(dict(noarch=noarch, package_metadata_version=1), sort_keys=True)
        whole = io.BytesIO()
        with tarfile.open(fileobj=whole, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for key, text in info_files.items():
                data = text.encode()
                tar.addfile(member("info/" + key, len(data)), io.BytesIO(data))
            payload.seek(0)
            with tarfile.open(fileobj=payload) as inner:
                for entry in inner:
                    tar.addfile(entry, inner.extractfile(entry) if entry.isreg() else None)
        data = bz2.compress(whole.getvalue(), 1)
        file_name = "%s-%s-%s.tar.bz2" % (name, version, build)
        os.makedirs(os.path.join(self.out, subdir), exist_ok=True)
        with open(os.path.join(self.out, subdir, file_name), "wb") as target:
            target.write(data)
        self.records[subdir][file_name] = dict(index, md5=hashlib.md5(data).hexdigest(),
                                               sha256=hashlib.sha256(data).hexdigest(), size=len(data))

    def finish(self):
        for subdir, packages in self.records.items():
            os.makedirs(os.path.join(self.out, subdir), exist_ok=True)
            repodata = {"info": {"subdir": subdir}, "packages": packages, "packages.conda": {}, "repodata_version": 1}
            with open(os.path.join(self.out, subdir, "repodata.json"), "w") as target:
                json.dump(repodata, target, sort_keys=True)


def copy_python(stage):
    """This CPython without what robots do not need, moved to relative library paths."""
    def left_out(folder, names):
        return [n for n in names if n in LEFT_OUT or n.endswith(".a") or n.startswith("_tkinter") or (n == "share" and folder == sys.base_prefix)]

    shutil.copytree(sys.base_prefix, stage, symlinks=True, ignore=left_out)
    binaries = os.path.join(stage, "bin")
    for name in os.listdir(binaries):
        if name not in ("python", "python3", PYTHON):
            os.unlink(os.path.join(binaries, name))
    for name in ("python", "python3"):
        path = os.path.join(binaries, name)
        if os.path.lexists(path):
            os.unlink(path)
        os.symlink(PYTHON, path)
    library = os.path.join(stage, "lib")
    elfs = [os.path.join(binaries, PYTHON)]
    elfs += [path for _, path in files_below(library) if ".so" in os.path.basename(path) and not os.path.islink(path)]
    needed = {}
    for elf in elfs:
        output = subprocess.run(["ldd", elf], capture_output=True, text=True, check=False).stdout
        for words in (line.split() for line in output.splitlines()):
            if len(words) > 2 and words[1] == "=>" and words[2].startswith("/") and not words[0].startswith(SYSTEM):
                needed[words[0]] = words[2]
            if len(words) > 3 and words[1] == "=>" and words[2] == "not":
                sys.exit("%s needs %s, which this machine does not have" % (elf, words[0]))
    for name, path in sorted(needed.items()):
        if not os.path.exists(os.path.join(library, name)):
            shutil.copy(os.path.realpath(path), os.path.join(library, name))
            elfs.append(os.path.join(library, name))
    for elf in elfs:
        os.chmod(elf, 0o755)
        subprocess.check_call(["strip", "--strip-unneeded", elf])
        relative = os.path.relpath(library, os.path.dirname(elf))
        subprocess.check_call(["patchelf", "--set-rpath", "$ORIGIN/" + relative, elf])


def main(out):
    dist = os.path.join(sys.base_prefix, "lib", PYTHON, "site-packages")
    if not os.path.isdir(dist):
        sys.exit("%s has no %s: this CPython has a distribution's own layout; use one of pyenv or python.org" % (sys.executable, dist))
    channel = Channel(os.path.abspath(out))
    with tempfile.TemporaryDirectory() as work:
        stage = os.path.join(work, "python")
        copy_python(stage)
        # A folder needs a file in a conda package; interpreters expect this one to be there.
        packages = os.path.join(stage, "lib", PYTHON, "site-packages")
        os.makedirs(packages, exist_ok=True)
        with open(os.path.join(packages, "README.txt"), "w") as readme:
            readme.write("This directory exists so that 3rd party packages can be installed here.\n")
        channel.add("linux-64", "python", VERSION, "0_cpython", files_below(stage), [], prefix=sys.base_prefix)
        for name, version, depends, entry_points in WHEELS:
            target = os.path.join(work, name)
            subprocess.check_call([sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--no-deps",
                                   "--disable-pip-version-check", "--target", target, "%s==%s" % (name, version)])
            shutil.rmtree(os.path.join(target, "bin"), ignore_errors=True)
            channel.add("noarch", name, version, "py_0", files_below(target, "site-packages"),
                        ["python >=3.7"] + depends, entry_points=entry_points)
    channel.finish()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
