//! Gives the library its name, so that programs that were linked with it by a path do not look for it at that path.

fn main() {
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libhomifs.so");
    println!("cargo::rerun-if-changed=build.rs");
}
