//! Volumes of many geometries and features, filled by the kernel and compared with its own mount.

mod support;

use std::os::unix::net::UnixListener;

use extents_core::{FileSystem, Flow, XattrNamespace};
use support::{Image, can_mount, compare};

/// Something of everything that a data fork can be, and the usual special files.
const CONTENTS: &str = r#"
mkdir -p deep/a/b/c/d/e/f many
for i in $(seq 1 700); do echo "contents $i" > many/file-with-a-rather-long-name-$i; done
for i in $(seq 1 3 700); do rm many/file-with-a-rather-long-name-$i; done
head -c 1000000 /dev/urandom > plain
: > empty
printf x > tiny
truncate -s 3G sparse
printf end | dd of=sparse bs=1 seek=3221225000 conv=notrunc status=none
xfs_io -f -c "falloc 0 1m" -c "pwrite -q 256k 128k" unwritten
xfs_io -f -c "falloc -k 0 2m" -c "pwrite -q 0 100k" past-the-end
for i in $(seq 0 2 60); do
    head -c 65536 /dev/urandom | dd of=fragmented bs=64k seek=$i conv=notrunc status=none
done
ln plain deep/hard-link
for n in 1 10 100 300 500 900 1023; do ln -s $(head -c $n /dev/zero | tr '\0' s) symlink-$n; done
mknod char c 5 300; mknod block b 259 77777; mkfifo fifo
chmod 6751 tiny; chown 70000:4000000000 tiny
touch -d '1933-03-03 03:03:03.123456789' tiny; touch -d '2024-02-29 23:59:59.999999999' -h symlink-10
chattr +Sd empty; chattr +A plain; chattr -p 3000000000 empty
chattr +a fifo 2>/dev/null || true
echo log > append; chattr +a append; echo fixed > immutable; chattr +i immutable
sync
"#;

fn check(size: &str, arguments: &[&str]) {
    if !can_mount() {
        return;
    }
    let image = Image::make(size, arguments);
    image.fill(CONTENTS);
    drop(UnixListener::bind(image.mount("rw").path().join("socket")).unwrap());
    let mount = image.mount("ro");
    let volume = image.open();
    let compared = compare::tree(&volume, image.path(), mount.path());
    assert!(compared.inodes > 480 && compared.extents > 480, "{compared:?}");
    usage_equals(&volume, mount.path());
    info_equals(&volume, mount.path());
}

fn usage_equals(volume: &extents_xfs::Xfs, kernel: &std::path::Path) {
    let theirs = support::ioctls::statfs(kernel);
    let ours = volume.usage().unwrap();
    assert_eq!(u64::from(ours.block_size), theirs.block_size);
    assert_eq!((ours.blocks, ours.free, ours.available), (theirs.blocks, theirs.free, theirs.available));
    assert_eq!((ours.files, ours.files_free), (theirs.files, theirs.files_free));
    assert_eq!(u64::from(ours.name_max), theirs.name_max);
}

/// Free space in so many pieces that its trees have more than their roots, which the kernel counts as free and gives nobody.
const PIECES: &str = "
for folder in a b c d; do
    mkdir $folder
    for i in $(seq 1500); do printf '%3000s' x > $folder/$i; done
done
sync
for i in $(seq 1 2 1500); do echo {a,b,c,d}/$i; done | xargs rm
";

#[test]
fn space_that_the_free_space_trees_have_is_withheld_as_by_the_kernel() {
    if !can_mount() {
        return;
    }
    // The kernel makes out what other trees may grow to, and reads all groups for that; without them it reads none.
    for features in ["rmapbt=0", "rmapbt=1", "reflink=0", "reflink=0,finobt=0,inobtcount=0"] {
        let image = Image::make("320M", &["-b", "size=1024", "-m", features]);
        image.fill(PIECES);
        let taken = support::run(
            "xfs_db",
            &["-r", "-c", "agf 0", "-c", "p btreeblks", image.path().to_str().unwrap()],
        );
        assert!(!taken.trim().ends_with("= 0"), "{features}: {taken}");
        let mount = image.mount("ro");
        usage_equals(&image.open(), mount.path());
    }
}

/// What `xfs_info` prints of the mount names the same numbers.
fn info_equals(volume: &extents_xfs::Xfs, kernel: &std::path::Path) {
    let text = support::run("xfs_info", &[kernel.to_str().unwrap()]);
    let info = volume.info();
    for expected in [
        format!("agcount={},", info.groups),
        format!("isize={} ", info.inode_size),
        format!("sectsz={} ", info.sector_size),
        format!("bsize={} ", info.block_size),
    ] {
        assert!(text.contains(&expected), "{expected} in {text}");
    }
    for feature in ["finobt", "sparse", "rmapbt", "reflink", "bigtime", "inobtcount", "nrext64"] {
        let ours = info.features.iter().any(|known| known.name == feature);
        assert_eq!(ours, text.contains(&format!("{feature}=1")), "{feature} in {text}");
    }
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
    volume_with_defaults_equals_kernel: "320M" [""; 0];
    volume_with_1k_blocks_equals_kernel: "320M" ["-b", "size=1024"];
    volume_with_2k_blocks_equals_kernel: "320M" ["-b", "size=2048", "-n", "size=16384"];
    volume_with_8k_blocks_equals_kernel: "320M" ["-b", "size=8192"];
    volume_with_16k_blocks_equals_kernel: "400M" ["-b", "size=16384", "-n", "size=65536"];
    volume_with_64k_blocks_equals_kernel: "600M" ["-b", "size=65536"];
    volume_with_4k_sectors_equals_kernel: "320M" ["-s", "size=4096"];
    volume_with_2k_sectors_equals_kernel: "320M" ["-s", "size=2048", "-b", "size=2048"];
    volume_with_32k_sectors_equals_kernel: "600M" ["-s", "size=32768", "-b", "size=32768"];
    volume_with_1k_inodes_equals_kernel: "320M" ["-i", "size=1024"];
    volume_with_2k_inodes_equals_kernel: "320M" ["-i", "size=2048", "-n", "size=32768"];
    volume_with_large_counters_equals_kernel: "320M" ["-i", "nrext64=1"];
    volume_with_reverse_map_equals_kernel: "320M" ["-m", "rmapbt=1"];
    volume_without_new_features_equals_kernel: "320M"
        ["-m", "bigtime=0,reflink=0,finobt=0,inobtcount=0", "-i", "sparse=0,nrext64=0"];
    volume_with_many_groups_equals_kernel: "3G" ["-d", "agcount=31", "-i", "maxpct=5"];
    volume_of_6_terabytes_equals_kernel: "6T" ["-l", "size=64m"];
    volume_with_stripes_equals_kernel: "640M" ["-d", "su=64k,sw=4", "-l", "su=32k"];
}

#[test]
fn volume_with_parent_pointers_and_exchange_range_equals_kernel() {
    if !can_mount() {
        return;
    }
    let image = Image::make("320M", &[]);
    // mkfs.xfs of 2022 does not know these features; the kernel that fills the volume does.
    image.patch_superblock(|incompat| incompat | 0x40 | 0x80);
    image.fill(
        "mkdir a; echo text > a/file; ln a/file b; ln -s target link; setfattr -n user.name -v value b",
    );
    let mount = image.mount("ro");
    let volume = image.open();
    assert_eq!(compare::tree(&volume, image.path(), mount.path()).inodes, 4);
    for feature in ["parent", "exchange"] {
        assert!(volume.info().features.iter().any(|known| known.name == feature), "{:?}", volume.info());
    }
    let file = volume.lookup(volume.root(), b"b").unwrap().unwrap();
    let stored = image.xfs_db(&[&format!("inode {file}"), "print a.sfattr.hdr.count"]);
    assert!(stored.contains("count = 3"), "two parents and a name: {stored}");
    let mut names = Vec::new();
    volume
        .xattrs(file, &mut |attribute| {
            names.push((attribute.namespace, attribute.name.to_vec()));
            Flow::Continue(())
        })
        .unwrap();
    assert_eq!(names, [(XattrNamespace::User, b"name".to_vec())], "parents are no attributes to be listed");
}
