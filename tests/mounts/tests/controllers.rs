//! Mounts behind NVMe controllers: in this process and in another, which may be killed, started again, or be something
//! else altogether.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use mounts::{ControllerProcess, Engine, HelperLinks, HomifsMount, homifs, outcome, sample};
use oracle::{machine, skip_if};
use rustix::process::Signal;

const FILE: &str = "holes/whole-82020";

fn read_directly(path: &Path) -> std::io::Result<Vec<u8>> {
    let file = File::options().read(true).custom_flags(libc::O_DIRECT).open(path)?;
    let mut contents = vec![0; usize::try_from(file.metadata()?.len()).unwrap_or_default()];
    file.read_exact_at(&mut contents, 0)?;
    Ok(contents)
}

/// Whether a read failed as it may where the controller is gone.
fn is_lost(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::ENODEV))
}

#[test]
fn mount_program_takes_controllers_as_sources_and_shows_them_unaltered() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let _links = match HelperLinks::make()? {
        Ok(links) => links,
        Err(reason) => {
            println!("skipped: {reason}");
            return Ok(());
        }
    };
    let folder = tempfile::tempdir()?;
    let image = sample(folder.path(), "ext4-default")?;
    let expected = {
        let mount = HomifsMount::by(Engine::Kernel, &image, "")?;
        fs::read(mount.join(FILE))?
    };
    let controller = ControllerProcess::start([&image], &["--read-only"])?;
    let relative = format!("soft:{}", image.file_name().unwrap_or_default().to_string_lossy());
    let absolute = format!("soft:{}", image.display());
    let socket = controller.spec().display().to_string();
    for (source, kind) in
        [(&absolute, "homifs"), (&relative, "homifs"), (&socket, "homifs"), (&socket, "fuse.homifs")]
    {
        let mount = HomifsMount::prepare()?;
        let script = format!("cd '{}' && exec mount -t {kind} '{source}' \"$0\"", folder.path().display());
        let mounted = outcome("sh", ["-c", &script, &mount.path().to_string_lossy()])?;
        mounted.succeeded()?;
        let entry = mount.entry().expect("it is mounted");
        assert_eq!((entry.source.as_str(), entry.kind.as_str()), (source.as_str(), "fuse.homifs"));
        assert!(fs::read(mount.join(FILE))? == expected, "{source}");
        outcome("umount", [mount.path()])?.succeeded()?;
        assert_eq!(mount.entry(), None);
    }
    Ok(())
}

#[test]
fn homifs_mount_says_which_path_it_chose() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let folder = tempfile::tempdir()?;
    let image = sample(folder.path(), "xfs-default")?;
    let controller = ControllerProcess::start([&image], &["--read-only"])?;
    let soft = format!("soft:{}", image.display());
    let cases = [
        (image.display().to_string(), vec!["xfs", "read by"]),
        (soft, vec!["NVMe", "in this process", "xfs-default.img"]),
        (controller.spec().display().to_string(), vec!["NVMe", "vfio-user on"]),
    ];
    for (spec, words) in cases {
        let mount = HomifsMount::prepare()?;
        let done = outcome(homifs()?, ["mount", &spec, &mount.path().to_string_lossy()])?;
        let told = done.succeeded()?;
        assert!(told.starts_with(&format!("{spec} mounted on ")), "{told}");
        for word in words {
            assert!(told.contains(word), "{word}: {told}");
        }
    }
    Ok(())
}

#[test]
fn one_image_is_mounted_in_two_ways_at_once() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let folder = tempfile::tempdir()?;
    let image = sample(folder.path(), "ext4-default")?;
    let mounts = [Engine::Kernel, Engine::Soft, Engine::Soft, Engine::VfioUser]
        .map(|engine| HomifsMount::by(engine, &image, ""));
    let contents: Vec<Vec<u8>> =
        mounts.into_iter().map(|mount| Ok(fs::read(mount?.join(FILE))?)).collect::<Result<_>>()?;
    assert!(contents.iter().all(|one| *one == contents[0] && !one.is_empty()));
    Ok(())
}

#[test]
fn image_that_shrinks_below_a_controller_gives_eio_and_the_rest_goes_on() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for engine in [Engine::Soft, Engine::VfioUser] {
        let folder = tempfile::tempdir()?;
        let image = sample(folder.path(), "ext4-default")?;
        let mount = HomifsMount::by(engine, &image, "")?;
        let path = mount.join(FILE);
        let before = read_directly(&path)?;
        let size = fs::metadata(&image)?.len();
        File::options().write(true).open(&image)?.set_len(1 << 20)?;
        let error = read_directly(&path).expect_err("the bytes are gone");
        assert_eq!(error.raw_os_error(), Some(libc::EIO), "{engine}");
        assert!(fs::read_to_string(mount.join(".homi/stats"))?.contains("# TYPE"));
        File::options().write(true).open(&image)?.set_len(size)?;
        assert!(read_directly(&path)?.len() == before.len(), "{engine}");
    }
    Ok(())
}

#[test]
fn controller_killed_under_readers_gives_them_errors_soon_and_the_mount_can_go() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let folder = tempfile::tempdir()?;
    let image = sample(folder.path(), "ext4-default")?;
    let mut controller = ControllerProcess::start([&image], &["--read-only"])?;
    let mut mount = HomifsMount::of_spec(&controller.spec(), "")?;
    let path = mount.join(FILE);
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let path = path.clone();
            thread::spawn(move || {
                let until = Instant::now() + Duration::from_secs(60);
                while Instant::now() < until {
                    if let Err(error) = read_directly(&path) {
                        return Some((error, Instant::now()));
                    }
                }
                None
            })
        })
        .collect();
    thread::sleep(Duration::from_millis(300));
    let killed = Instant::now();
    controller.end(Signal::KILL)?;
    for reader in readers {
        let (error, at) = reader.join().expect("a reader").expect("reads end in an error");
        assert!(is_lost(&error), "{error}");
        assert!(at.duration_since(killed) < Duration::from_secs(10), "{:?}", at.duration_since(killed));
    }
    assert!(is_lost(&read_directly(&path).expect_err("nobody is there")));
    assert!(fs::read_to_string(mount.join(".homi/stats"))?.contains("# TYPE"));
    outcome("umount", [mount.path()])?.succeeded()?;
    assert!(mount.daemon().wait()?.success());

    // Another one at the same place, whose socket the dead one left behind.
    let socket = controller.socket();
    assert!(socket.exists());
    let program = homifs()?;
    let mut again = std::process::Command::new(program)
        .arg("controller")
        .args([&image, Path::new("--socket"), &socket, Path::new("--read-only")])
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let mut ready = [0; 6];
    again.stdout.as_mut().expect("its output").read_exact(&mut ready)?;
    let seen =
        HomifsMount::of_spec(&controller.spec(), "").and_then(|mount| Ok(read_directly(&mount.join(FILE))?));
    rustix::process::kill_process(rustix::process::Pid::from_child(&again), Signal::TERM)?;
    assert!(again.wait()?.success());
    assert!(!seen?.is_empty());
    assert!(!socket.exists(), "a controller that ends takes its socket with it");
    Ok(())
}

#[test]
fn sockets_of_nobody_of_others_and_of_no_nvme_controller_are_refused_in_one_sentence() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let folder = tempfile::tempdir()?;
    let point = folder.path().join("mnt");
    fs::create_dir(&point)?;
    let place = |name: &str| folder.path().join(name);
    fs::write(place("file"), "no socket")?;
    drop(UnixListener::bind(place("left-over"))?);
    let silent = UnixListener::bind(place("silent"))?;
    let chatty = UnixListener::bind(place("chatty"))?;
    thread::spawn(move || {
        for client in chatty.incoming().flatten() {
            let mut client = client;
            let _ =
                client.write_all(b"220 mail.example.org ESMTP ready\r\n and something more to fill a header");
            let _ = client.read(&mut [0; 100]);
        }
    });
    let closing = UnixListener::bind(place("closing"))?;
    thread::spawn(move || closing.incoming().for_each(drop));
    let cases = [
        ("missing", "nobody listens there"),
        ("file", "nobody listens there"),
        ("left-over", "nobody listens there"),
        ("silent", "within"),
        ("chatty", "does not speak the protocol"),
        ("closing", "gone"),
    ];
    for (name, words) in cases {
        let start = Instant::now();
        let spec = format!("vfio-user:{}", place(name).display());
        let refused = outcome(homifs()?, ["mount", &spec, &point.to_string_lossy()])?;
        refused.refused_with(32, &[&spec, words])?;
        assert!(start.elapsed() < Duration::from_secs(25), "{name}: {:?}", start.elapsed());
    }
    drop(silent);
    for (spec, words) in [
        ("soft:", "a path is missing"),
        ("soft:/nowhere.img", "No such file"),
        ("3d:00.0", "VFIO comes later"),
    ] {
        outcome(homifs()?, ["mount", spec, &point.to_string_lossy()])?.refused_with(32, &[words])?;
    }
    Ok(())
}

#[test]
fn controller_refuses_what_it_cannot_serve_and_says_what_to_do() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let image = folder.path().join("disk.img");
    File::create(&image)?.set_len(4 << 20)?;
    let shown = image.to_string_lossy().into_owned();
    let socket = folder.path().join("x.sock").to_string_lossy().into_owned();
    let refused = |arguments: &[&str], words: &[&str]| {
        outcome(homifs()?, [&["controller"], arguments].concat())?.refused_with(1, words)
    };
    refused(&["/nowhere.img", "--socket", &socket], &["/nowhere.img", "No such file"])?;
    refused(&[&shown, "--socket", "/nowhere/x.sock"], &["/nowhere", "make the folder"])?;
    refused(&[&shown, "--socket", &shown], &["is not a socket"])?;
    let small = folder.path().join("small.img");
    File::create(&small)?.set_len(100)?;
    refused(&[&small.to_string_lossy(), "--socket", &socket], &["small.img"])?;
    // Two writers of one image.
    let mut first = ControllerProcess::start([&image], &[])?;
    refused(&[&shown, "--socket", &socket], &["in use", &format!("process {}", first.id())])?;
    refused(&[&shown, "--socket", &first.socket().to_string_lossy(), "--read-only"], &["in use"])?;
    assert!(first.end(Signal::TERM)?.success());
    assert!(!first.socket().exists());
    Ok(())
}

#[test]
fn socket_that_others_may_not_use_is_refused_for_them() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let image = folder.path().join("disk.img");
    File::create(&image)?.set_len(4 << 20)?;
    let controller = ControllerProcess::start([&image], &["--read-only"])?;
    // The folder lets everybody through; the socket does not.
    let socket = controller.socket();
    let parent = socket.parent().expect("a folder");
    fs::set_permissions(parent, fs::Permissions::from_mode(0o755))?;
    assert_eq!(fs::metadata(&socket)?.permissions().mode() & 0o777, 0o600);
    let copy = folder.path().join("homifs");
    fs::copy(homifs()?, &copy)?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let spec = controller.spec().display().to_string();
    let arguments =
        ["--reuid=65534", "--regid=65534", "--clear-groups", &copy.to_string_lossy(), "info", &spec];
    let refused = outcome("setpriv", arguments)?;
    if refused.stderr.contains("setpriv") {
        println!("skipped: {}", refused.stderr.trim());
        return Ok(());
    }
    refused.refused_with(1, &["cannot connect to", "Permission denied"])
}

#[test]
fn namespaces_come_and_go_while_a_controller_runs() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let images: Vec<_> = ["one.img", "two.img"].iter().map(|name| folder.path().join(name)).collect();
    images.iter().try_for_each(|image| File::create(image)?.set_len(4 << 20))?;
    let mut child = std::process::Command::new(homifs()?)
        .arg("controller")
        .args([&images[0], Path::new("--control"), Path::new("--socket"), &folder.path().join("x.sock")])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let script = format!("add {}\nadd /nowhere\nremove 1\nremove 7\ndance\n", images[1].display());
    child.stdin.take().expect("its input").write_all(script.as_bytes())?;
    let mut lines =
        std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().expect("its output")));
    let mut told = Vec::new();
    while told.len() < 6 {
        told.push(lines.next().expect("a line")?);
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM)?;
    assert!(child.wait()?.success());
    let starts = [
        "ready: namespace 1 is ",
        "ok namespace 2 is ",
        "error ",
        "ok namespace 1 is gone",
        "error ",
        "error ",
    ];
    for (line, start) in told.iter().zip(starts) {
        assert!(line.starts_with(start), "{told:#?}");
    }
    Ok(())
}
