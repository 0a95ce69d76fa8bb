//! Installed as `/sbin/mount.homifs` and `/sbin/mount.fuse.homifs`, where mount(8) looks for `-t homifs` and
//! `-t fuse.homifs`. (Cargo names no binary with a dot in it.)

fn main() -> std::process::ExitCode {
    mount_homifs::run(std::env::args_os())
}
