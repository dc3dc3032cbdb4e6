#!/usr/bin/env bash
# Makes an environment as conda and pip would leave it: `environment.sh OUT REQUIREMENTS SEALED_PATH`.
# Packages from the Python index by their pinned versions, this machine's interpreter and standard library without its
# tests, everything compiled. SEALED_PATH is where the bytecode says that its source lies.
set -euo pipefail
out=$1 requirements=$2 sealed=$3
prefix=$(python3 -c 'import sys; print(sys.base_prefix)')
version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
library=$out/lib/python$version

mkdir -p "$out/bin" "$library/site-packages"
cp "$prefix/bin/python$version" "$out/bin/"
ln -s "python$version" "$out/bin/python"
find "$prefix/lib" -maxdepth 1 -name 'libpython*.so*' -exec cp -P {} "$out/lib/" ';'
(cd "$prefix/lib/python$version" && tar --exclude=./site-packages --exclude=./test --exclude='./config-*' --exclude=__pycache__ -cf - .) \
  | tar -C "$library" -xf -
python3 -m pip install --quiet --quiet --disable-pip-version-check --no-warn-script-location --no-cache-dir --no-compile --no-deps \
  --only-binary :all: --target "$library/site-packages" --requirement "$requirements"
# Some packages carry files for other versions of Python, which do not compile.
python3 -m compileall -q -j2 --invalidation-mode unchecked-hash -s "$out" -p "$sealed" "$library" >/dev/null || true
# What rcc puts at the top.
printf 'channels: []\n' >"$out/identity.yaml"
printf '{}\n' >"$out/rcc_activate.json"
