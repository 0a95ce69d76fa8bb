//! What a device holds, told by its first bytes.

use std::fmt;

use extents_core::{BlockRead, ReadError, to_u64, to_usize};
use extents_ext4::Ext4;
use extents_xfs::Xfs;

/// What a device or partition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// An ext2, ext3 or ext4 volume.
    Ext4,
    /// An XFS volume.
    Xfs,
    /// Something else that we know by its signature.
    Known(&'static Known),
    /// Nothing but zeros, as far as was looked.
    Zeros,
    /// No byte at all.
    Empty,
    /// Anything.
    Unknown,
}

/// Something that is no volume of ours.
#[derive(Debug, PartialEq, Eq)]
pub struct Known {
    /// Its short name, as blkid(8) has it where it has one.
    pub name: &'static str,
    /// What it is, with its article.
    pub what: &'static str,
    /// What to do about it; may be empty.
    pub advice: &'static str,
    /// Where the signature lies, and what it is.
    signatures: &'static [(u64, &'static [u8])],
}

impl Contents {
    /// A short name: the format's, or `-` where there is none.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Known(known) => known.name,
            Self::Zeros => "zeros",
            Self::Empty | Self::Unknown => "-",
        }
    }

    /// What to do about it; may be empty.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::Known(known) => known.advice,
            _ => "",
        }
    }
}

/// What it is, as the end of a sentence that begins with "it holds".
impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ext4 => "an ext2, ext3 or ext4 volume",
            Self::Xfs => "an XFS volume",
            Self::Known(known) => known.what,
            Self::Zeros => "nothing but zeros where a volume would begin",
            Self::Empty => "no data at all",
            Self::Unknown => "nothing that is known here",
        })
    }
}

/// How much of the beginning is read: signatures lie within.
const LOOKED_AT: u64 = 68 << 10;

/// Sorted so that what may contain others' leftovers comes first.
static KNOWN: &[Known] = &[
    Known {
        name: "crypto_LUKS",
        what: "a LUKS encrypted volume",
        advice: "open it with cryptsetup and name the device that this makes",
        signatures: &[(0, b"LUKS\xba\xbe"), (0, b"SKUL\xba\xbe")],
    },
    Known {
        name: "LVM2_member",
        what: "an LVM physical volume",
        advice: "name a logical volume of it (lvs lists them)",
        signatures: &[
            (24, b"LVM2 001"),
            (512 + 24, b"LVM2 001"),
            (1024 + 24, b"LVM2 001"),
            (1536 + 24, b"LVM2 001"),
        ],
    },
    Known {
        name: "linux_raid_member",
        what: "a member of an md array",
        advice: "assemble the array with mdadm and name that",
        signatures: &[(0, b"\xfc\x4e\x2b\xa9"), (4096, b"\xfc\x4e\x2b\xa9")],
    },
    Known {
        name: "swap",
        what: "swap space",
        advice: "",
        signatures: &[
            (4096 - 10, b"SWAPSPACE2"),
            (8192 - 10, b"SWAPSPACE2"),
            (16384 - 10, b"SWAPSPACE2"),
            (65536 - 10, b"SWAPSPACE2"),
            (4096 - 10, b"S1SUSPEND"),
        ],
    },
    Known {
        name: "qcow2",
        what: "a qcow2 image",
        advice: "make a raw image of it (qemu-img convert -O raw)",
        signatures: &[(0, b"QFI\xfb")],
    },
    Known {
        name: "vmdk",
        what: "a VMDK image",
        advice: "make a raw image of it (qemu-img convert -O raw)",
        signatures: &[(0, b"KDMV")],
    },
    Known {
        name: "vhdx",
        what: "a VHDX image",
        advice: "make a raw image of it (qemu-img convert -O raw)",
        signatures: &[(0, b"vhdxfile")],
    },
    Known { name: "btrfs", what: "a btrfs volume", advice: "", signatures: &[(0x10000 + 0x40, b"_BHRfS_M")] },
    Known { name: "f2fs", what: "an F2FS volume", advice: "", signatures: &[(1024, b"\x10\x20\xf5\xf2")] },
    Known { name: "erofs", what: "an EROFS volume", advice: "", signatures: &[(1024, b"\xe2\xe1\xf5\xe0")] },
    Known {
        name: "bcachefs",
        what: "a bcachefs volume",
        advice: "",
        signatures: &[
            (4096 + 24, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"),
            (4096 + 24, b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"),
        ],
    },
    Known { name: "squashfs", what: "a squashfs volume", advice: "", signatures: &[(0, b"hsqs")] },
    Known { name: "iso9660", what: "an ISO 9660 volume", advice: "", signatures: &[(32769, b"CD001")] },
    Known {
        name: "reiserfs",
        what: "a ReiserFS volume",
        advice: "",
        signatures: &[(0x10034, b"ReIsEr2Fs"), (0x10034, b"ReIsErFs"), (0x10034, b"ReIsEr3Fs")],
    },
    Known { name: "jfs", what: "a JFS volume", advice: "", signatures: &[(32768, b"JFS1")] },
    Known { name: "ntfs", what: "an NTFS volume", advice: "", signatures: &[(3, b"NTFS    ")] },
    Known { name: "exfat", what: "an exFAT volume", advice: "", signatures: &[(3, b"EXFAT   ")] },
    Known {
        name: "vfat",
        what: "a FAT volume",
        advice: "",
        signatures: &[(54, b"FAT12   "), (54, b"FAT16   "), (82, b"FAT32   ")],
    },
    Known {
        name: "gzip",
        what: "gzip-compressed data",
        advice: "decompress it first",
        signatures: &[(0, b"\x1f\x8b\x08")],
    },
    Known {
        name: "zstd",
        what: "zstd-compressed data",
        advice: "decompress it first",
        signatures: &[(0, b"\x28\xb5\x2f\xfd")],
    },
    Known {
        name: "xz",
        what: "xz-compressed data",
        advice: "decompress it first",
        signatures: &[(0, b"\xfd7zXZ\0")],
    },
    Known { name: "elf", what: "a program", advice: "", signatures: &[(0, b"\x7fELF")] },
];

/// Looks what a device holds. A volume of ours wins over other signatures: mkfs leaves the first kilobyte alone.
///
/// # Errors
/// Where its beginning cannot be read.
pub fn contents<R: BlockRead + ?Sized>(device: &R) -> Result<Contents, ReadError> {
    if device.size() == 0 {
        return Ok(Contents::Empty);
    }
    let mut head = vec![0; to_usize(device.size().min(LOOKED_AT))];
    device.read_at(0, &mut head)?;
    // The device delivered its beginning just now; a reader that fails on it says that it is not its format.
    if Xfs::probe(device).unwrap_or(false) {
        return Ok(Contents::Xfs);
    }
    if Ext4::probe(device).unwrap_or(false) {
        return Ok(Contents::Ext4);
    }
    Ok(match other(&head) {
        Some(known) => Contents::Known(known),
        None if head.iter().all(|&byte| byte == 0) => Contents::Zeros,
        None => Contents::Unknown,
    })
}

/// What else begins with these bytes.
pub(crate) fn other(head: &[u8]) -> Option<&'static Known> {
    KNOWN.iter().find(|known| {
        known.signatures.iter().any(|(offset, signature)| {
            let end = offset + to_u64(signature.len());
            head.get(to_usize(*offset)..to_usize(end)) == Some(*signature)
        })
    })
}
