//! Files whose maps are out of the ordinary, compared with FIEMAP and the bytes that the kernel reads.

mod support;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};

use extents_core::{ExtentFlags, ExtentMap, FileSystem, Ino};
use support::{Image, can_mount, compare};

fn map_of(image: &Image, path: &std::path::Path) -> ExtentMap {
    image.open().extents(Ino(fs::metadata(path).unwrap().ino())).unwrap()
}

#[test]
fn file_of_100000_extents_has_the_map_of_fiemap_in_3200000_bytes() {
    if !can_mount() {
        return;
    }
    let image = Image::make("400M", &["-b", "size=1024", "-m", "reflink=0"]);
    {
        let mount = image.mount("rw");
        let file = File::create(mount.path().join("fragments")).unwrap();
        // Writing behind the end would also allocate ahead of it.
        file.set_len(100_000 * 2048).unwrap();
        for number in 0..100_000_u64 {
            let text = format!("{number:1024}");
            file.write_all_at(text.as_bytes(), number * 2048).unwrap();
        }
    }
    let mount = image.mount("ro");
    let compared = compare::tree(&image.open(), image.path(), mount.path());
    assert_eq!(compared.extents, 100_000);
    let map = map_of(&image, &mount.path().join("fragments"));
    assert!(map.memory() <= 3_200_000, "{} bytes", map.memory());
}

#[test]
fn files_at_and_beyond_2_to_the_40_equal_kernel() {
    if !can_mount() {
        return;
    }
    let image = Image::make("320M", &["-i", "nrext64=1"]);
    image.fill(
        r#"
        for place in 4294967296 1099511627776 17592186044416 4611686018427387904 9223372036854771712; do
            xfs_io -f -c "pwrite -q $place 3000" at-$place
            xfs_io -f -c "pwrite -q $place 3000" all
        done
        truncate -s 9223372036854775807 nothing-at-all
        xfs_io -f -c "falloc 8796093022208 1m" allocated
        "#,
    );
    let mount = image.mount("ro");
    let compared = compare::tree(&image.open(), image.path(), mount.path());
    assert!(compared.inodes == 8 && compared.extents >= 11, "{compared:?}");
}

#[test]
fn reflinked_files_are_cut_where_sharing_begins_and_ends() {
    if !can_mount() {
        return;
    }
    let image = Image::make("320M", &["-m", "reflink=1"]);
    image.fill(
        r#"
        head -c 4m /dev/urandom > original; sync
        cp --reflink=always original whole
        xfs_io -f -c "reflink original 1m 0 64k" part
        xfs_io -f -c "reflink original 1088k 0 64k" next-part
        xfs_io -f -c "reflink original 8k 4k 4k" -c "reflink original 16k 12k 4k" block-by-block
        cp --reflink=always original changed; sync
        xfs_io -c "pwrite -q 512k 64k" -c "pwrite -q 700k 1" changed
        head -c 1m /dev/urandom > once; sync; cp --reflink=always once again; rm again
        xfs_io -f -c "falloc 0 256k" -c "pwrite -q 64k 64k" unwritten; sync
        cp --reflink=always unwritten unwritten-too
        for i in $(seq 0 2 200); do xfs_io -f -c "reflink original $((i * 4))k $((i * 4))k 4k" every-other; done
        rm whole
        "#,
    );
    let mount = image.mount("ro");
    compare::tree(&image.open(), image.path(), mount.path());
    let original = map_of(&image, &mount.path().join("original"));
    let shared = original.iter().filter(|extent| extent.flags.contains(ExtentFlags::SHARED)).count();
    assert!(shared > 2 && shared < original.len(), "{original:?}");
    let once = map_of(&image, &mount.path().join("once"));
    assert!(once.iter().all(|extent| extent.flags.is_empty()), "{once:?}");
}

#[test]
fn reference_tree_of_several_levels_gives_the_flags_of_fiemap() {
    if !can_mount() {
        return;
    }
    let image = Image::make("320M", &["-m", "reflink=1", "-b", "size=1024", "-d", "agcount=2"]);
    {
        let mount = image.mount("rw");
        fs::write(mount.path().join("original"), vec![7; 3 << 20]).unwrap();
        support::run("sync", &[]);
        let script: String =
            (0..1500).map(|number| format!("reflink original {0} {0} 1024\n", number * 2048)).collect();
        let commands = image.folder().join("commands");
        fs::write(&commands, script).unwrap();
        let (folder, commands) = (mount.path().to_str().unwrap(), commands.to_str().unwrap());
        support::run(
            "sh",
            &["-c", &format!("cd {folder} && xfs_io -f every-other < {commands} > /dev/null")],
        );
    }
    let levels = image.xfs_db(&["agf 0", "print refcntlevel"]);
    assert!(levels.contains("refcntlevel = 2") || levels.contains("refcntlevel = 3"), "{levels}");
    let mount = image.mount("ro");
    let compared = compare::tree(&image.open(), image.path(), mount.path());
    assert_eq!(compared.extents, 3000 + 1500);
}

#[test]
fn sparse_inode_chunks_equal_kernel() {
    if !can_mount() {
        return;
    }
    let image = Image::make("320M", &["-i", "sparse=1,maxpct=100", "-d", "agcount=4"]);
    {
        let mount = image.mount("rw");
        let fill = mount.path().join("fill");
        // Otherwise a part of the space stays in one piece, for emergencies.
        support::run("xfs_io", &["-x", "-c", "resblks 0", mount.path().to_str().unwrap()]);
        let file = File::create(&fill).unwrap();
        // All space in one file, then room for half a chunk here and there only.
        let mut at = 0;
        for length in [16_i64 << 20, 1 << 20, 64 << 10, 4 << 10] {
            while support::ioctls::allocate(&file, 0, at, length) {
                at += length;
            }
        }
        for start in (0..at).step_by(64 << 10) {
            assert!(support::ioctls::punch(&file, start, 28 << 10));
        }
        for number in 0..20_000 {
            if File::create(mount.path().join(format!("file-{number}"))).is_err() {
                break;
            }
        }
    }
    let leaf = image.xfs_db(&["agi 0", "addr root", "addr ptrs[3]", "print"]);
    // A chunk without holes has the mask 0.
    let sparse = leaf.lines().filter(|line| line.contains(":[") && !line.contains(",0,64,")).count();
    assert!(sparse > 5, "no sparse chunk came about: {leaf}");
    let mount = image.mount("ro");
    let compared = compare::tree(&image.open(), image.path(), mount.path());
    assert!(compared.inodes > 200, "{compared:?}");
}

#[test]
fn inode_whose_extents_are_miscounted_is_corrupt() {
    if !can_mount() {
        return;
    }
    let image = Image::make("320M", &["-b", "size=1024"]);
    image.fill("truncate -s 1m f; for i in $(seq 0 2 200); do xfs_io -c \"pwrite -q ${i}k 1k\" f; done");
    let ino = image.open().lookup(image.open().root(), b"f").unwrap().unwrap();
    assert_eq!(image.open().extents(ino).unwrap().len(), 101);
    let path = image.path().to_str().unwrap();
    let inode = format!("inode {ino}");
    assert!(image.xfs_db(&[&inode, "print core.format"]).contains("btree"));
    support::run("xfs_db", &["-x", "-c", &inode, "-c", "write core.nextents 100", path]);
    let text = image.open().extents(ino).unwrap_err().to_string();
    assert!(text.contains("holds 101 extents where the inode counts 100"), "{text}");
}

#[test]
fn inode_numbers_of_free_and_missing_inodes_are_not_in_use() {
    if !can_mount() {
        return;
    }
    let image = Image::make("320M", &[]);
    image.fill("for i in $(seq 200); do : > f$i; done; for i in $(seq 1 2 200); do rm f$i; done");
    let mount = image.mount("ro");
    let volume = image.open();
    let used: std::collections::HashSet<u64> = fs::read_dir(mount.path())
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().ino())
        .chain([volume.root().0])
        .collect();
    let mut found = 0;
    for number in (0..20_000).chain([1 << 20, 1 << 40, u64::MAX]) {
        // The root is followed by inodes for quotas and the realtime device, which no directory names.
        let hidden = (volume.root().0 + 1..volume.root().0 + 3).contains(&number);
        match volume.metadata(Ino(number)) {
            Ok(_) if used.contains(&number) => found += 1,
            Ok(_) => assert!(hidden, "inode {number} was found but is not in use"),
            Err(error) => {
                assert!(matches!(error, extents_core::Error::NoSuchInode(_)), "inode {number}: {error}");
                assert!(!used.contains(&number), "inode {number} was not found");
            }
        }
    }
    assert_eq!(found, used.len());
}

#[test]
fn volume_read_by_many_threads_with_little_memory_gives_all_of_them_the_same() {
    if !can_mount() {
        return;
    }
    let image = Image::make("320M", &["-m", "reflink=1"]);
    image.fill(
        r#"
        for d in 1 2 3 4; do
            mkdir $d
            for f in $(seq 300); do echo "$d $f" > $d/a-file-with-a-name-$f; done
        done
        cp --reflink=always 1/a-file-with-a-name-1 shared
        "#,
    );
    let options = extents_xfs::OpenOptions { cache_bytes: 64 << 10, ..Default::default() };
    let volume = image.try_open(&options).unwrap();
    let walk = || {
        let mut seen = Vec::new();
        for (name, directory) in compare::names(&volume, volume.root()) {
            seen.push((name, volume.inspect(Ino(directory)).unwrap()));
            if volume.metadata(Ino(directory)).unwrap().is_directory() {
                for (name, ino) in compare::names(&volume, Ino(directory)) {
                    seen.push((name, volume.inspect(Ino(ino)).unwrap()));
                }
            }
        }
        seen
    };
    let alone = walk();
    assert_eq!(alone.len(), 4 + 1200 + 1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(walk)).collect();
        for thread in threads {
            assert!(thread.join().unwrap() == alone);
        }
    });
    let (held, limit) = volume.cache_usage();
    assert!(limit <= 64 << 10 && held <= 64 << 15, "{held} of {limit}");
}
