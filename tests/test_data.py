"""The data are those that were committed on purpose: a digit that changes is told with its file."""

import hashlib

from task_vectors.paths import project_root

SUMS = "data/checksums.txt"
RENEW = f"if that was meant: find data/published data/tasks -type f | LC_ALL=C sort | xargs sha256sum > {SUMS}"


def test_every_data_file_is_as_its_checksum_says():
    root = project_root()
    files = [path for name in ("published", "tasks") for path in (root / "data" / name).rglob("*") if path.is_file()]
    found = {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    lines = (root / SUMS).read_text(encoding="utf-8").splitlines()
    committed = {name: checksum for checksum, name in (line.split(maxsplit=1) for line in lines)}
    changed = sorted(name for name, checksum in found.items() if committed.get(name, checksum) != checksum)
    assert changed == [], f"changed: {changed}; {RENEW}"
    assert sorted(found.keys() - committed.keys()) == [], f"without a checksum; {RENEW}"
    assert sorted(committed.keys() - found.keys()) == [], f"missing; {RENEW}"
