//! Volumes of version 4, which the kernel may no longer mount: made from a list of files by mkfs.xfs, compared
//! with that list and with what xfs_db reads.

mod support;

use std::fs;
use std::path::Path;

use extents_core::{BlockRead, DeviceNumber, FileSystem, FileType, Ino, Metadata};
use extents_xfs::Xfs;
use support::{Image, ImageFile, can_make, compare, run};

const NAMES: usize = 600;

/// A volume with some of everything, and the contents of its files.
fn make(size: &str, arguments: &[&str]) -> (Image, Vec<u8>) {
    let folder = tempfile::TempDir::new().unwrap();
    let contents: Vec<u8> = (0..300_001_u64).map(|number| ((number * number) >> 7) as u8).collect();
    let source = folder.path().join("contents");
    fs::write(&source, &contents).unwrap();
    let proto = folder.path().join("proto");
    fs::write(&proto, prototype(&source)).unwrap();
    let image = Image::make(size, &[&["-m", "crc=0", "-p", proto.to_str().unwrap()], arguments].concat());
    (image, contents)
}

fn prototype(contents: &Path) -> String {
    let contents = contents.display();
    let mut text = String::from("/none\n0 0\nd--755 3 5\n");
    text += &format!("file ---644 0 0 {contents}\nsetuid -u-750 70000 80000 {contents}\n");
    text += "block b--600 0 0 8 17\nchar c--620 0 5 4 64\nfifo p--600 0 0\n";
    for length in [1, 60, 156, 157, 300, 1000] {
        text += &format!("symlink-{length} l--777 0 0 {}\n", "t".repeat(length));
    }
    text += "small d--750 7 8\ninner ---600 1 2 /dev/null\n$\nlarge d--755 0 0\n";
    for number in 0..NAMES {
        text += &format!("a-name-of-some-length-{number} p--600 {number} 0\n");
    }
    text + "$\n$\n"
}

fn find(volume: &Xfs, path: &str) -> Metadata {
    let ino = path.split('/').fold(volume.root(), |ino, name| {
        volume.lookup(ino, name.as_bytes()).unwrap().expect("the name is there")
    });
    volume.metadata(ino).unwrap()
}

fn bytes(volume: &Xfs, image: &Image, ino: Ino) -> Vec<u8> {
    let map = volume.extents(ino).unwrap();
    let device = ImageFile::open(image.path());
    let mut all = vec![0; map.size() as usize];
    for extent in map.iter() {
        let end = (extent.end().min(map.size())) as usize;
        device.read_at(extent.physical, &mut all[extent.logical as usize..end]).unwrap();
    }
    all
}

/// The fields of an inode that xfs_db prints, against ours.
fn inode_equals_xfs_db(image: &Image, ours: &Metadata, generation: u32) {
    let text = image.xfs_db(&[&format!("inode {}", ours.ino), "print"]);
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} = ")));
        line.unwrap_or_else(|| panic!("{name} in {text}")).to_owned()
    };
    assert_eq!(field("core.mode"), format!("0{:o}", ours.mode));
    assert_eq!(field("core.uid"), ours.uid.to_string());
    assert_eq!(field("core.gid"), ours.gid.to_string());
    assert_eq!(field("core.nlinkv2"), ours.links.to_string());
    assert_eq!(field("core.size"), ours.size.to_string());
    assert_eq!(field("core.gen"), generation.to_string());
    assert_eq!(field("core.mtime.nsec"), ours.modified.nanoseconds.to_string());
    assert!(ours.born.is_none(), "version 2 keeps no time of birth");
}

fn check(size: &str, arguments: &[&str]) {
    if !can_make() {
        return;
    }
    let (image, contents) = make(size, arguments);
    let volume = image.open();
    assert_eq!(volume.info().version, 4);

    let file = find(&volume, "file");
    assert_eq!((file.mode, file.size), (0o100_644, contents.len() as u64));
    assert!(bytes(&volume, &image, file.ino) == contents);
    let setuid = find(&volume, "setuid");
    assert_eq!((setuid.mode, setuid.uid, setuid.gid), (0o104_750, 70_000, 80_000));
    assert!(bytes(&volume, &image, setuid.ino) == contents);
    for length in [1, 60, 156, 157, 300, 1000] {
        let link = find(&volume, &format!("symlink-{length}"));
        assert_eq!(volume.read_link(link.ino).unwrap(), "t".repeat(length).as_bytes());
    }
    let device = |path| find(&volume, path).device;
    assert_eq!(device("block"), DeviceNumber { major: 8, minor: 17 });
    assert_eq!(device("char"), DeviceNumber { major: 4, minor: 64 });
    assert_eq!(find(&volume, "fifo").file_type, FileType::Fifo);
    assert_eq!(compare::names(&volume, find(&volume, "small").ino).len(), 1);
    let large = find(&volume, "large").ino;
    assert_eq!(compare::names(&volume, large).len(), NAMES);
    for number in (0..NAMES).step_by(41) {
        let path = format!("large/a-name-of-some-length-{number}");
        assert_eq!(find(&volume, &path).uid as usize, number);
    }
    for ours in [file, setuid, find(&volume, "fifo"), find(&volume, "large")] {
        inode_equals_xfs_db(&image, &ours, ours.generation);
        bmap_equals_xfs_db(&image, &volume, &ours);
    }
    usage_equals_xfs_db(&image, &volume);
}

/// `bmap` of xfs_db: "data offset 0 startblock 12 (0/12) count 49 flag 0".
fn bmap_equals_xfs_db(image: &Image, volume: &Xfs, ours: &Metadata) {
    if !ours.is_regular() {
        return;
    }
    let text = image.xfs_db(&[&format!("inode {}", ours.ino), "bmap"]);
    let info = volume.info();
    let block = u64::from(info.block_size);
    let group_blocks: u64 = image
        .xfs_db(&["sb 0", "print agblocks"])
        .trim()
        .rsplit(' ')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap();
    let theirs: Vec<(u64, u64, u64)> = text
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split([' ', '(', ')', '/']).filter(|word| !word.is_empty()).collect();
            let number = |place: usize| words[place].parse::<u64>().unwrap();
            (number(2) * block, (number(5) * group_blocks + number(6)) * block, number(8) * block)
        })
        .collect();
    let map = volume.extents(ours.ino).unwrap();
    let ours: Vec<_> = map.iter().map(|extent| (extent.logical, extent.physical, extent.length)).collect();
    assert_eq!(ours, theirs, "{text}");
}

fn usage_equals_xfs_db(image: &Image, volume: &Xfs) {
    let text = image.xfs_db(&["sb 0", "print icount ifree fdblocks dblocks logblocks agcount"]);
    let field = |name: &str| -> u64 {
        text.lines().find_map(|line| line.strip_prefix(&format!("{name} = "))).unwrap().parse().unwrap()
    };
    let usage = volume.usage().unwrap();
    assert_eq!(usage.blocks, field("dblocks") - field("logblocks"));
    assert_eq!(usage.free, field("fdblocks") - 8 * field("agcount"));
    assert_eq!(usage.files - usage.files_free, field("icount") - field("ifree"));
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
    version4_with_512_byte_blocks_equals_its_list: "320M" ["-b", "size=512"];
    version4_with_1k_blocks_and_no_ftype_equals_its_list: "320M" ["-b", "size=1024", "-n", "ftype=0"];
    version4_with_4k_sectors_equals_its_list: "320M" ["-b", "size=4096", "-s", "size=4096"];
    version4_with_64k_blocks_equals_its_list: "600M" ["-b", "size=65536"];
    version4_with_large_directory_blocks_equals_its_list: "320M" ["-b", "size=512", "-n", "size=32768"];
    version4_with_2k_inodes_equals_its_list: "320M" ["-i", "size=2048"];
    version4_as_of_2007_equals_its_list: "320M"
        ["-i", "attr=1,projid32bit=0", "-l", "lazy-count=0,version=1", "-n", "ftype=0"];
}

#[test]
fn version1_inode_takes_its_links_from_the_old_field() {
    if !can_make() {
        return;
    }
    let (image, contents) = make("320M", &[]);
    let ino = find(&image.open(), "file").ino;
    let path = image.path().to_str().unwrap();
    for field in ["core.version 1", "core.nlinkv1 77"] {
        run("xfs_db", &["-x", "-c", &format!("inode {ino}"), "-c", &format!("write {field}"), path]);
    }
    let volume = image.open();
    assert_eq!(volume.metadata(ino).unwrap().links, 77);
    assert!(bytes(&volume, &image, ino) == contents);
}
