//! The volume's description of itself, for people.

use extents_core::VolumeInfo;

use crate::features::{Incompat, RoCompat};
use crate::geometry::Geometry;
use crate::superblock::RawSuperblock;

/// The description; what was done about the journal is filled in once that is known.
pub(crate) fn volume(raw: &RawSuperblock, geometry: &Geometry) -> VolumeInfo {
    VolumeInfo {
        format: geometry.features.format(),
        version: raw.rev_level.get(),
        uuid: raw.uuid,
        label: until_nul(&raw.volume_name).to_vec(),
        block_size: geometry.block_size,
        // The format keeps no sector size; i_blocks and all alignment count in these.
        sector_size: 512,
        size: geometry.volume_size(),
        inode_size: geometry.inode_size,
        groups: geometry.groups,
        features: geometry.features.list(),
        recovery: "".into(),
        details: details(raw, geometry),
    }
}

fn details(raw: &RawSuperblock, geometry: &Geometry) -> Vec<(&'static str, String)> {
    let mut details = vec![
        ("state", state(raw.state.get())),
        ("blocks", geometry.blocks.to_string()),
        ("reserved blocks", geometry.reserved_blocks.to_string()),
        ("inodes", geometry.inodes.to_string()),
        ("blocks per group", geometry.blocks_per_group.to_string()),
        ("inodes per group", geometry.inodes_per_group.to_string()),
        ("last mounted on", String::from_utf8_lossy(until_nul(&raw.last_mounted)).into_owned()),
        ("errors recorded", raw.error_count.get().to_string()),
    ];
    if geometry.features.ro_compat.contains(RoCompat::BIGALLOC) {
        let bytes = u64::from(geometry.cluster_blocks) * u64::from(geometry.block_size);
        details.push(("cluster size", bytes.to_string()));
    }
    if geometry.features.has(Incompat::FLEX_BG)
        && let Some(groups) = 1_u32.checked_shl(u32::from(raw.log_groups_per_flex))
    {
        details.push(("groups per flex group", groups.to_string()));
    }
    if let Some(hash) = geometry.default_hash {
        details.push(("directory hash", format!("{hash:?}")));
    }
    details
}

fn state(bits: u16) -> String {
    const NAMES: [(u16, &str); 4] =
        [(0x1, "clean"), (0x2, "has errors"), (0x4, "recovering orphans"), (0x20, "replaying fast commits")];
    let names: Vec<&str> =
        NAMES.into_iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| name).collect();
    if bits & 1 == 0 {
        return ["not clean"].into_iter().chain(names).collect::<Vec<_>>().join(", ");
    }
    names.join(", ")
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}
