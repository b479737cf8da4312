"""Readers of published benchmarks, which check the layout and the official numbers of images."""

from clipreid_kit.data.benchmarks.ag_reid import read_ag_reid
from clipreid_kit.data.benchmarks.cargo import read_cargo
from clipreid_kit.data.benchmarks.cuhk03 import read_cuhk03
from clipreid_kit.data.benchmarks.cuhk_pedes import read_cuhk_pedes
from clipreid_kit.data.benchmarks.hands11k import read_hands11k
from clipreid_kit.data.benchmarks.icfg_pedes import read_icfg_pedes
from clipreid_kit.data.benchmarks.inshop import read_inshop
from clipreid_kit.data.benchmarks.llcm import read_llcm
from clipreid_kit.data.benchmarks.market1501 import read_market1501
from clipreid_kit.data.benchmarks.mars import read_mars
from clipreid_kit.data.benchmarks.msmt17 import read_msmt17
from clipreid_kit.data.benchmarks.omniglot import read_omniglot
from clipreid_kit.data.benchmarks.online_products import read_online_products
from clipreid_kit.data.benchmarks.polyu_hands import read_polyu_hands
from clipreid_kit.data.benchmarks.regdb import read_regdb
from clipreid_kit.data.benchmarks.rstpreid import read_rstpreid
from clipreid_kit.data.benchmarks.sysu_mm01 import read_sysu_mm01, read_sysu_permutations
from clipreid_kit.data.benchmarks.vehicleid import read_vehicleid
from clipreid_kit.data.benchmarks.veri776 import read_veri776

__all__ = [
    "read_ag_reid",
    "read_cargo",
    "read_cuhk03",
    "read_cuhk_pedes",
    "read_hands11k",
    "read_icfg_pedes",
    "read_inshop",
    "read_llcm",
    "read_market1501",
    "read_mars",
    "read_msmt17",
    "read_omniglot",
    "read_online_products",
    "read_polyu_hands",
    "read_regdb",
    "read_rstpreid",
    "read_sysu_mm01",
    "read_sysu_permutations",
    "read_vehicleid",
    "read_veri776",
]
