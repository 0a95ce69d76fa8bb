//! A volume in memory, and what serves it without a mount.

mod device;

use std::process::Command;
use std::sync::Arc;

use extents_core::Ino;
use homi_abi::session::Handle;
use homifs_core::{Caller, Homifs, NodeId, VolumeParts};
use homifs_options::MountOptions;
use zerocopy::FromBytes;

use device::{Hook, Image, MemoryDevice};

/// A volume with files `large` of 4 MiB, `written` of 64 KiB and `short` of 700 bytes.
pub(crate) struct Volume {
    image: Image,
    homifs: Option<Arc<Homifs>>,
}

impl Volume {
    /// `None`, with the reason told, where this machine cannot make one.
    pub(crate) fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let (tree, image) = (folder.path().join("tree"), folder.path().join("image"));
        std::fs::create_dir(&tree).unwrap();
        let bytes: Vec<u8> = (0..1_u32 << 20).flat_map(u32::to_le_bytes).collect();
        std::fs::write(tree.join("large"), bytes).unwrap();
        std::fs::write(tree.join("written"), vec![7; 64 << 10]).unwrap();
        std::fs::write(tree.join("short"), vec![9; 700]).unwrap();
        let made =
            Command::new("mkfs.ext4").args(["-q", "-F", "-d"]).arg(tree).arg(&image).arg("32M").output();
        if !made.as_ref().is_ok_and(|made| made.status.success()) {
            println!("skipped: mkfs.ext4 does not make a volume: {made:?}");
            return None;
        }
        Some(Self { image: Image(Arc::new(std::fs::read(image).unwrap())), homifs: None })
    }

    /// Serves it anew, by a device that answers at once or when it is polled.
    pub(crate) fn mount(&self, at_once: bool) -> Arc<Homifs> {
        self.mount_as(at_once, MountOptions::default(), None)
    }

    /// As [`mount`](Self::mount), with options, and with what comes before each read of the device that waits.
    pub(crate) fn mount_as(
        &self,
        at_once: bool,
        options: MountOptions,
        before_read: Option<Hook>,
    ) -> Arc<Homifs> {
        let ext4 = extents_ext4::OpenOptions::default();
        let fs = Arc::new(extents_ext4::Ext4::open(self.image.clone(), &ext4).unwrap());
        let device = Arc::new(MemoryDevice::new(self.image.clone(), at_once, before_read));
        let parts = VolumeParts { fs, device, start: 0 };
        Homifs::new(parts, "memory".into(), options)
    }

    /// The volume as it is served there.
    pub(crate) fn of(&self, homifs: &Arc<Homifs>) -> Self {
        Self { image: self.image.clone(), homifs: Some(Arc::clone(homifs)) }
    }

    /// A handle of a file in its root, as root gets it.
    pub(crate) fn handle_of(&self, name: &[u8]) -> Handle {
        self.handle(name, b"homi.handle")
    }

    /// As [`handle_of`](Self::handle_of), by the attribute of this name.
    pub(crate) fn handle(&self, name: &[u8], attribute: &[u8]) -> Handle {
        let homifs = self.homifs.as_ref().unwrap();
        let Ino(ino) = homifs.volume().lookup(homifs.volume().root(), name).unwrap().unwrap();
        let caller = Caller { uid: 0, gid: 0, pid: 0, groups: Some(Vec::new()) };
        let bytes = homifs.xattr(NodeId(ino), attribute, &caller).unwrap();
        Handle::read_from_bytes(&bytes).unwrap()
    }
}
