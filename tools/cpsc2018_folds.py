"""Writes the folds of CPSC2018's training records that come with the package, from the table of labels that comes with the records.

python tools/cpsc2018_folds.py REFERENCE.csv
"""

import sys
from pathlib import Path

from diffgraft.ecg.cpsc import labels_of
from diffgraft.ecg.folds import CPSC2018, hash_of, stratify

labels = labels_of(Path(sys.argv[1]))
split = stratify(list(labels), list(labels.values()))
CPSC2018.write_text("record,fold\n" + "".join(f"{name},{split[name]}\n" for name in sorted(split)))
print(f"{len(split):,} records, hash {hash_of(split)}")
