//! Extended attributes of every form and size, made and judged by the kernel.

mod support;

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use extents_core::{FileSystem, Flow, Ino, XattrNamespace};
use extents_xfs::Xfs;
use support::{Image, can_make, can_mount, run};

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

fn set(path: &Path, name: &[u8], value: &[u8]) {
    let (path, name) = (c_path(path), CString::new(name).unwrap());
    // SAFETY: both names end with NUL and the value is as long as told.
    let answer =
        unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    assert_eq!(answer, 0, "{name:?} of {path:?}: {}", std::io::Error::last_os_error());
}

fn remove(path: &Path, name: &[u8]) {
    let (path, name) = (c_path(path), CString::new(name).unwrap());
    // SAFETY: both names end with NUL.
    assert_eq!(unsafe { libc::lremovexattr(path.as_ptr(), name.as_ptr()) }, 0);
}

fn kernel_value(path: &CStr, name: &CStr) -> Vec<u8> {
    let mut value = vec![0_u8; 64 << 10];
    // SAFETY: both names end with NUL and the buffer is as long as told.
    let length =
        unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    assert!(length >= 0, "{name:?} of {path:?}: {}", std::io::Error::last_os_error());
    value.truncate(length as usize);
    value
}

/// Full names and values, in the kernel's order.
fn kernel_attributes(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let path = c_path(path);
    let mut list = vec![0_u8; 64 << 10];
    // SAFETY: the name ends with NUL and the buffer is as long as told.
    let length = unsafe { libc::llistxattr(path.as_ptr(), list.as_mut_ptr().cast(), list.len()) };
    assert!(length >= 0, "{path:?}: {}", std::io::Error::last_os_error());
    list.truncate(length as usize);
    list.split_inclusive(|&byte| byte == 0)
        .map(|name| CStr::from_bytes_with_nul(name).unwrap())
        .map(|name| (name.to_bytes().to_vec(), kernel_value(&path, name)))
        .collect()
}

fn our_attributes(volume: &Xfs, ino: Ino) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut names = Vec::new();
    let mut keep = |attribute: extents_core::Xattr<'_>| {
        names.push((attribute.namespace, attribute.name.to_vec()));
        Flow::Continue(())
    };
    volume.xattrs(ino, &mut keep).unwrap();
    names
        .into_iter()
        .map(|(namespace, name)| {
            let value = volume.xattr(ino, namespace, &name).unwrap();
            ([namespace.prefix().as_bytes(), &name].concat(), value.expect("listed, so there"))
        })
        .collect()
}

/// Compares the attributes of everything in a folder; answers how many there are.
fn compare(volume: &Xfs, folder: &Path) -> usize {
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let ino = Ino(fs::symlink_metadata(&path).unwrap().ino());
        let (ours, theirs) = (our_attributes(volume, ino), kernel_attributes(&path));
        let names = |list: &[(Vec<u8>, Vec<u8>)]| -> Vec<String> {
            list.iter().map(|(name, value)| format!("{}={}", name.escape_ascii(), value.len())).collect()
        };
        assert!(ours == theirs, "{}: {:?} and {:?}", path.display(), names(&ours), names(&theirs));
        for namespace in [XattrNamespace::User, XattrNamespace::Trusted, XattrNamespace::Security] {
            assert_eq!(volume.xattr(ino, namespace, b"not there").unwrap(), None);
        }
        count += ours.len();
    }
    count
}

fn value(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|place| (place * 31 + place / 251 + seed * 7) as u8).collect()
}

/// Lengths about every border: within the inode, within a leaf, blocks of each size with and without headers.
fn lengths() -> Vec<usize> {
    let mut lengths: Vec<usize> = (0..40).collect();
    for border in [56, 100, 200, 255, 256, 300, 456, 512, 968, 1024, 1992, 2048, 3072, 4040, 4096, 8080] {
        lengths.extend([border - 1, border, border + 1]);
    }
    for border in [8192, 16_328, 16_384, 32_768, 40_400, 65_480, 65_536 - 56, 65_536] {
        lengths.extend([border - 1, border]);
    }
    lengths
}

fn check(size: &str, arguments: &[&str]) {
    if !can_mount() {
        return;
    }
    let image = Image::make(size, arguments);
    {
        let mount = image.mount("rw");
        let file = |name: &str| {
            let path = mount.path().join(name);
            File::create(&path).unwrap();
            path
        };
        for (seed, length) in lengths().into_iter().enumerate() {
            let path = file(&format!("one-{length}"));
            for space in ["user", "trusted", "security"] {
                set(&path, format!("{space}.value").as_bytes(), &value(seed + space.len(), length));
            }
        }
        let all = file("all-lengths");
        for (seed, length) in lengths().into_iter().enumerate() {
            set(&all, format!("user.length-{length}").as_bytes(), &value(seed, length));
        }
        for count in [1, 3, 10, 40, 150, 600, 2000] {
            let path = file(&format!("many-{count}"));
            for number in 0..count {
                let space = ["user", "trusted", "security"][number % 3];
                let name = format!("{space}.attribute-{number}-{}", "n".repeat(number % 15));
                set(&path, name.as_bytes(), &value(number, number % 60));
            }
            let path = file(&format!("thinned-{count}"));
            for number in 0..count {
                set(&path, format!("user.{number}").as_bytes(), &value(number, 7 * number % 3000));
            }
            for number in (0..count).filter(|number| number % 4 != 1) {
                remove(&path, format!("user.{number}").as_bytes());
            }
        }
        let path = file("names");
        for length in 1..=250 {
            let name: Vec<u8> =
                (0..length).map(|place| 0x21 + ((length * 5 + place * 3) % 0xde) as u8).collect();
            set(&path, &[&b"user."[..], &name].concat(), &value(length, length % 5));
        }
        let path = file("collisions");
        for number in 0..500 {
            // The last five bytes undo what the number does to the hash.
            let mut name = format!("{number:04}").into_bytes();
            let rest = name.iter().fold(0, |hash: u32, &byte| hash.rotate_left(7) ^ u32::from(byte));
            let rest = rest.rotate_left(35 % 32) ^ 0x3333_3333;
            name.extend([28, 21, 14, 7, 0].map(|shift| (rest >> shift & 0x7f) as u8));
            if !name.contains(&0) {
                set(&path, &[&b"trusted."[..], &name].concat(), &value(number, 20));
                set(&path, &[&b"user."[..], &name].concat(), &value(number + 1, 20));
            }
        }
        let path = mount.path().join("directory");
        fs::create_dir(&path).unwrap();
        set(&path, b"user.of-a-directory", b"yes");
        std::os::unix::fs::symlink("nowhere", mount.path().join("link")).unwrap();
        set(&mount.path().join("link"), b"trusted.of-a-link", b"yes");
    }
    let mount = image.mount("ro");
    let count = compare(&image.open(), mount.path());
    assert!(count > 3000, "{count}");
}

macro_rules! geometries {
    ($($name:ident: $size:literal $arguments:expr;)*) => {$(
        #[test]
        fn $name() {
            check($size, &$arguments);
        }
    )*};
}

geometries! {
    xattrs_default_volume_equals_kernel: "500M" [];
    xattrs_1k_blocks_equals_kernel: "500M" ["-b", "size=1k"];
    xattrs_large_inodes_equals_kernel: "500M" ["-i", "size=2048"];
    xattrs_2k_blocks_64k_directory_blocks_equals_kernel: "500M" ["-b", "size=2k", "-n", "size=64k"];
}

/// As many as listxattr can list, so long that their tree has two levels of nodes.
#[test]
fn xattrs_deep_tree_equals_kernel() {
    if !can_mount() {
        return;
    }
    let image = Image::make("400M", &["-b", "size=1k"]);
    {
        let mount = image.mount("rw");
        let path = mount.path().join("file");
        File::create(&path).unwrap();
        for number in 0..6000 {
            set(&path, format!("user.{number:x}").as_bytes(), &value(number, 60 + number % 40));
        }
    }
    let mount = image.mount("ro");
    let ino = fs::metadata(mount.path().join("file")).unwrap().ino();
    let level = image.xfs_db(&[&format!("inode {ino}"), "ablock 0", "print hdr.level"]);
    assert_eq!(level.trim(), "hdr.level = 2");
    assert!(compare(&image.open(), mount.path()) >= 6000);
}

#[test]
fn xattrs_acls_equal_kernel() {
    if !can_mount() {
        return;
    }
    let image = Image::make("400M", &[]);
    image.fill(
        r"
        touch plain one many; mkdir inherits inherits/inside
        setfacl -m u:12345:rw- one
        for i in $(seq 1000 1400); do echo u:$i:r-x; echo g:$i:--x; done > entries
        setfacl -M entries many; rm entries
        setfacl -d -m u:7:rwx,g:4294967290:r--,m::r-x inherits
        setfacl -m g::rwx,u:0:--- inherits
        touch inherits/file; mkdir inherits/directory
        setfattr -n trusted.SGI_ACL_FILE_ -v other plain
        ",
    );
    let mount = image.mount("ro");
    let volume = image.open();
    let count = compare(&volume, mount.path()) + compare(&volume, &mount.path().join("inherits"));
    assert!(count >= 12, "{count}");
    let ino = Ino(fs::metadata(mount.path().join("plain")).unwrap().ino());
    for namespace in [XattrNamespace::AclAccess, XattrNamespace::AclDefault] {
        assert_eq!(volume.xattr(ino, namespace, b"").unwrap(), None);
    }
    assert_eq!(volume.xattr(ino, XattrNamespace::System, b"data").unwrap(), None);
}

/// This kernel cannot mount version 4, so xfs_db sets the attributes: values of one letter repeated.
#[test]
fn xattrs_v4_equal_what_xfs_db_set() {
    if !can_make() {
        return;
    }
    for block in ["size=512", "size=4k", "size=64k"] {
        let folder = tempfile::TempDir::new().unwrap();
        let prototype = folder.path().join("prototype");
        fs::write(&prototype, "/dev/null\n0 0\nd--755 0 0\nfile ---644 0 0 /dev/null\n$\n").unwrap();
        let prototype = prototype.to_str().unwrap();
        let image = Image::make("400M", &["-m", "crc=0", "-b", block, "-p", prototype]);
        let mut commands = vec!["path /file".to_owned()];
        let sizes: Vec<usize> = (1..300).chain([512, 600, 4096, 5000, 20_000, 65_000, 65_535]).collect();
        for (place, size) in sizes.iter().enumerate() {
            let space = ["-u", "-r", "-s"][place % 3];
            commands.push(format!("attr_set {space} -v {size} name-{size}"));
        }
        let mut arguments = vec!["-x"];
        for command in &commands {
            arguments.extend(["-c", command]);
        }
        arguments.push(image.path().to_str().unwrap());
        run("xfs_db", &arguments);
        let volume = image.open();
        let ino = volume.lookup(volume.root(), b"file").unwrap().unwrap();
        let ours = our_attributes(&volume, ino);
        assert_eq!(ours.len(), sizes.len());
        for (name, value) in ours {
            let name = String::from_utf8(name).unwrap();
            let (space, size) = name.split_once(".name-").unwrap();
            let size: usize = size.parse().unwrap();
            let place = sizes.iter().position(|&other| other == size).unwrap();
            assert_eq!(space, ["user", "trusted", "security"][place % 3]);
            assert!(value == vec![b'v'; size], "{name}");
        }
    }
}

/// A name that is not finished, and one that only the file system uses, are not shown.
#[test]
fn xattrs_incomplete_or_parent_pointer_is_hidden() {
    if !can_mount() {
        return;
    }
    let image = Image::make("400M", &[]);
    let script = r#"touch file; for i in 1 2 3 4 5; do
        setfattr -n trusted.name-$i -v "$(head -c 200 /dev/zero | tr '\0' x)" file; done"#;
    image.fill(script);
    let volume = image.open();
    let ino = volume.lookup(volume.root(), b"file").unwrap().unwrap();
    let names = |volume: &Xfs| -> Vec<Vec<u8>> {
        our_attributes(volume, ino).into_iter().map(|(name, _)| name).collect()
    };
    let before = names(&volume);
    assert_eq!(before.len(), 5);
    let write = |field: &str| {
        let inode = format!("inode {}", ino.0);
        let path = image.path().to_str().unwrap();
        run("xfs_db", &["-x", "-c", &inode, "-c", "ablock 0", "-c", &format!("write -d {field}"), path]);
    };
    write("entries[1].incomplete 1");
    let after = names(&image.open());
    assert_eq!(after, [&before[..1], &before[2..]].concat());
    write("entries[1].incomplete 0");
    assert_eq!(names(&image.open()), before);
    support::bytes::set_in_attr_leaf_entry(&image, ino, 3, 0b1001);
    assert_eq!(names(&image.open()), [&before[..3], &before[4..]].concat());
}
