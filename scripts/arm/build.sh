# Builds the wheels for 64-bit ARM. Sourced after root.sh by the scripts beside it, not run.

# check_wheel WHEEL: renames it after the oldest systems that it runs on, as auditwheel finds; sets `checked`.
# Stops where the wheel needs a library that such systems do not have.
check_wheel() {
  local shown tag
  shown=$(.venv/bin/python -m auditwheel show "$1") || die "auditwheel refuses ${1##*/}"
  tag=$(grep -o 'manylinux_[0-9_]*_aarch64' <<<"$shown" | head -1)
  [ -n "$tag" ] || die "${1##*/} runs on no common system: $shown"
  checked=$(dirname "$1")/$(.venv/bin/python -m wheel tags --remove --platform-tag "$tag" "$1" | tail -1)
}

# build_wheel: HALO's, by the Python of `root` and this machine's cross compiler; sets `wheel`.
build_wheel() {
  local built=$root/wheels/new
  copy_source
  if ! inside /build/bin/python -c 'import pybind11, cmake, setuptools' 2>/dev/null; then
    say "preparing a Python environment to build in"
    inside python3 -m venv /build || die "no environment in the root"
    inside /build/bin/pip install -q 'setuptools>=77' 'pybind11>=3.0,<4' 'cmake>=3.20' || die "pip could not install what building needs"
  fi
  say "building HALO's wheel with $(inside /build/bin/python --version)"
  rm -rf "$built"
  inside CXX=/usr/local/bin/cross PATH=/build/bin:/usr/local/bin:/usr/bin:/bin \
    /build/bin/pip wheel -q --no-deps --no-build-isolation -w /wheels/new /src >"$root/wheels/log" 2>&1 ||
    { tail -30 "$root/wheels/log" >&2; die "HALO could not be built for ARM"; }
  check_wheel "$built"/halo_llm-*.whl
  wheel=$checked
}

# need_llama_wheel: llama-cpp-python's of the version that HALO uses, cross-built once; sets `llama_wheel`. It is for
# any armv8.0: HALO takes its tokenizer and samplers, and computes itself.
need_llama_wheel() {
  local version kept
  version=$(sed -n 's/.*"llama-cpp-python==\([0-9.]*\)".*/\1/p' pyproject.toml)
  kept=$ARM_CACHE/llama-cpp-python-$version
  if ! compgen -G "$kept/*.whl" >/dev/null; then
    say "cross-building llama-cpp-python $version, once: some five minutes"
    mkdir -p "$kept/new"
    printf 'set(CMAKE_SYSTEM_%s)\n' 'NAME Linux' 'PROCESSOR aarch64' >"$kept/toolchain.cmake"
    printf 'set(CMAKE_%s_COMPILER aarch64-linux-gnu-%s)\n' C gcc CXX g++ >>"$kept/toolchain.cmake"
    CMAKE_TOOLCHAIN_FILE=$kept/toolchain.cmake _PYTHON_HOST_PLATFORM=linux-aarch64 \
      CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_CPU_ARM_ARCH=armv8-a -DGGML_OPENMP=OFF -DLLAVA_BUILD=OFF -DMTMD_BUILD=OFF" \
      .venv/bin/python -m pip wheel -q --no-deps --no-cache-dir --no-binary llama-cpp-python -w "$kept/new" \
      "llama-cpp-python==$version" >"$kept/log" 2>&1 ||
      { tail -30 "$kept/log" >&2; die "llama-cpp-python could not be cross-built"; }
    check_wheel "$kept"/new/*.whl
    mv "$checked" "$kept/"
  fi
  llama_wheel=$(echo "$kept"/*.whl)
}
