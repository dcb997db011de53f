"""The VNC sample: where its slices are downloaded from, and what they must hash to.

Serial-section TEM of the ventral nerve cord of a Drosophila larva, 20 x 1024 x 1024 voxels, with
its mitochondria [1]_. CC BY-NC-SA 3.0: not for commercial use, and to be cited.

References
----------
.. [1] Gerhard, Funke, Martel, Cardona, Fetter: Segmented anisotropic ssTEM dataset of neural
   tissue. figshare (2013), https://doi.org/10.6084/m9.figshare.856713
"""

from biosegment.geometry import VoxelSize

BASE_URL = (
    "https://raw.githubusercontent.com/unidesigner/groundtruth-drosophila-vnc/"
    "4a5f051466d24d8dc1e855ab55658bb1b1dcd6bf/stack1/"
)
# Sections are 45 to 50 nm thick.
VOXEL_SIZE = VoxelSize(47.5, 4.6, 4.6)

_RAW_SHA256 = """
    b76df299a184d9a8616aa7867a1b0f577313e97cc9fef826a0f76f65f9676383
    718808c0149d6e24ee7b12085695c1ff8e3afb8e5dd13e18ca291fc9b60fcd09
    0e2480e0164bcbc2704d76232919f5fcc0540988c6f91a8a78b8f514718717a4
    1d6ca42fad097c8647b5e077ade1e7cb124d09aa11ef51b22c74367a44b04af6
    6be1ca5151edf4ffbe79745ce3a1cad784a83fc5843120820ba4133474c41bab
    5c208cd81d2bebe969e07f5c6717514e8c5c2e9967bac3685ddb71add9142b94
    db5ad4774950f7b0656853328bd8ef1e43f7b0790bf417c760a0cf1a1ac9999e
    5a0611902a45f3bf368ffc3312c74b0f2a8f923bba6f73d9041c727d3060bfbf
    9cff4e390c3604152a2b7a70d99e96edc45d1e50b48ae64b042ed2220fbdfbb9
    eeb17b2971d467a96525d879037d69d5973c998f5e4bcafe6d9adec08b4457a5
    6a9debebb6e78e0789b732d16ef4755011b5047299f9f1c22edb28a06c106a16
    318f17e45754e890ab7df384a1f3941bebeea4864fe4b49a34758a858de56bbe
    6e1a8b23083641cb4a066d281ff4c5149056a0f17b32e68d04c57948ef6f5547
    564970a899a67aab0ad899d22d19c43b68f6eeb01d893f5770ebc114cb4bd12c
    7a3bfd5951dbe637c764e51835a3d59c63de33b2dbcc9b0d70a0302a30dde904
    80ab55b19d877d791f2e008343ea1eb2315bd9dfe53bec141ea99c05a66b20c0
    ea86c994d2b9a2fe0764fcdbafd8b1fa21c091cb8ebac333e3c64ed6aa645647
    5cb536a565b57e6ccd47ef619d1f4e7cd4eae8d11eb5a1c7ea8bf6ac50d51eca
    bbe3f7b85d499899e7dec31ec9be1f75cd82fad710dc8a68bd24531fecf3e584
    a9c2710133d4791cad456db91fdf03d2cf44f3c517514f55efda596f4a4cd642
"""
_MITOCHONDRIA_SHA256 = """
    511bbbe9ce687a0422728fcc5921f5e5cb553aa9601518bf193325df19a0841f
    2e8a00b9d45eb0731cea31d0bdb3f001591c3a7bd4c29566437a65add85dfa90
    73d3fefd0be7846ff27debbae41c52630913aa79233151b19f7cb6b4cf69e48f
    e0377cb8e617ff8dda0dfcc920eb4d513d7809bfd7ccc13f059c651afe224f93
    766dba641e9f15443e154b1c58f12e1a63aa526102329b42f2934430e0195919
    3afce96c2e5586153f3f3f94916688ee049c1dea8af42d5b66f72a19612be91d
    b9522d90da07f087418af695ab557cc5691548edcff8ca71143a6a0dd1694230
    475b66b3a96970d17f2e8bfe466a61232582640fb91e62ba1643250451ce701b
    7327b9c3627d6a57afecd95884b51160ae42823240e8a71c29d3d4c7c47f63e2
    d276b2913dbf0505e59a01e4c7616a8ab66c2fd87431af5fa32800990f02c377
    ad41c7ce9e4b44dacb509c861ab263f783fdd4624518dbdc5731a5dea171b973
    c02adc9a9a9df771d7e798ad01f1048b46d404cbea9c5e7705d26b80a8edf180
    66f7035ea748ebb96a73ce1b710fe129b2332b31106cb94615627e93c50e747f
    0bc359db0dc5ddc31e735136695ea88015bdeb37ddfc3e6e89f604918e4765c5
    44c833e85d8240e3e8bbc34d9fba07d29be9d9cdd71c18b12a4c70e597502c72
    6823e4900e1457c7249b87876298f3cba5339d1a8e34c83f5a2766d024f7b54a
    5ffe5edaa15ad53dee648736aeffc76fd1e256e13b40b7b34cb65e3a38fdaeef
    b812bb16171af4ea1bfde98401f0a7de6a4481cc475d9856affc2fbe7aad4e73
    d0eddd9355e95cb3aa0c438f831fcd8e884627e96beac4ae723d2e9c68f41176
    92d28e2c28b9068c3efae4e26dd9a31b64efb8082813097d097a4b3f9ad2001f
"""


def registry() -> dict[str, str]:
    """Return the SHA-256 of each file below the base address, by its path there."""
    raw = {f"raw/{z:02}.tif": sha for z, sha in enumerate(_RAW_SHA256.split())}
    masks = {f"mitochondria/{z:02}.png": sha for z, sha in enumerate(_MITOCHONDRIA_SHA256.split())}
    return {**raw, **masks}
