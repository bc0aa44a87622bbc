"""The real tree that fills the volumes: directories of this machine, copied and compared by godwit-tree."""

import os
import re
import stat
import threading

from demo_run import DemoError

# What the tree must have at least, regular files and symbolic links together.
BYTES_MIN = 300_000_000
FILES_MIN = 20_000
# A directory with more than this is taken in parts, so that the volumes can be filled evenly.
PART_FILES_MAX = 3_000
PART_BYTES_MAX = 64_000_000
# Parts of a directory are looked for down to this depth; what is larger than this then is left out.
DEPTH_MAX = 4
WHOLE_BYTES_MAX = 200_000_000
# Where directories are taken from; the later ones only when the first two do not have enough.
PLACES = ["/usr/share", "/usr/include", "/usr/lib", "/opt"]
PLACES_FIRST = 2


class Part:
    """A directory of this machine, what is in it, and where in the export it goes."""

    def __init__(self, source, files, size):
        self.source = source
        self.files = files
        self.size = size
        self.target = "tree" + source

    @property
    def worth(self):
        """How much of the whole task it is: bytes and files count the same."""
        return self.size / BYTES_MIN + self.files / FILES_MIN


def measure(directory):
    """Files (links among them) and bytes below a directory; None when something in it cannot be read."""
    files = size = 0
    for path, names, leaves in os.walk(directory, onerror=lambda error: None):
        if not os.access(path, os.R_OK | os.X_OK):
            return None
        for name in leaves:
            full = os.path.join(path, name)
            status = os.lstat(full)
            if stat.S_ISREG(status.st_mode):
                if not os.access(full, os.R_OK):
                    return None
                size += status.st_size
            files += 1
        files += sum(1 for name in names if os.path.islink(os.path.join(path, name)))
    return files, size


def parts_of(directory, depth=0):
    """A directory as one part, or as the parts that its subdirectories are when it is large."""
    measured = measure(directory)
    # One with something unreadable in it may have parts that can be read.
    is_large = measured is None or measured[0] > PART_FILES_MAX or measured[1] > PART_BYTES_MAX
    if depth == 0 or (is_large and depth < DEPTH_MAX):
        found = []
        for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False):
                found += parts_of(entry.path, depth + 1)
        # A large directory without subdirectories stays whole.
        if found or depth == 0:
            return found
    if measured is None or measured[0] == 0 or measured[1] > WHOLE_BYTES_MAX:
        return []
    return [Part(directory, *measured)]


def choose():
    """The smallest number of parts, the largest first, that together have enough bytes and files."""
    candidates = []
    for index, place in enumerate(PLACES):
        if os.path.isdir(place):
            candidates += parts_of(place)
        enough = sum(part.size for part in candidates) >= BYTES_MIN and sum(
            part.files for part in candidates) >= FILES_MIN
        if index + 1 >= PLACES_FIRST and enough:
            break
    else:
        raise DemoError(
            f"{', '.join(PLACES)} have less than {BYTES_MIN // 1_000_000} MB and {FILES_MIN} files\n"
            "  remedy: install packages with many files, such as manpages or libboost-dev")
    chosen, size, files = [], 0, 0
    while size < BYTES_MIN or files < FILES_MIN:
        missing_size, missing_files = max(0, BYTES_MIN - size), max(0, FILES_MIN - files)
        # The part that brings both sums nearest to what they must be.
        best = max(candidates, key=lambda part: (
            min(part.size, missing_size) / BYTES_MIN + min(part.files, missing_files) / FILES_MIN, part.source))
        candidates.remove(best)
        chosen.append(best)
        size += best.size
        files += best.files
    return chosen


def spread(parts, volumes):
    """Deals the parts out to volumes so that each gets about the same: a dictionary of lists."""
    loads = {volume: 0.0 for volume in volumes}
    dealt = {volume: [] for volume in volumes}
    for part in sorted(parts, key=lambda part: (-part.worth, part.source)):
        volume = min(volumes, key=lambda name: (loads[name], name))
        loads[volume] += part.worth
        dealt[volume].append(part)
    return dealt


class TreeJobs:
    """Runs godwit-tree over all parts, the volumes side by side, and adds up what it says."""

    def __init__(self, run, address, port):
        self.run = run
        self.address = address
        self.port = port
        self.sums = {}
        self.failures = []
        self.lock = threading.Lock()

    def perform(self, dealt, options=(), prefix=""):
        """Copies, or with --verify compares; returns the sums of all that was printed as NAME=NUMBER."""
        self.sums, self.failures = {}, []
        threads = [
            threading.Thread(target=self._volume, args=(volume, parts, list(options), prefix), daemon=True)
            for volume, parts in dealt.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self.sums, self.failures

    def _volume(self, volume, parts, options, prefix):
        for part in parts:
            try:
                self._part(volume, part, options, prefix)
            except DemoError as error:
                with self.lock:
                    self.failures.append(str(error))
                return

    def _part(self, volume, part, options, prefix):
        arguments = [
            "--url", f"nfs://{self.address}/{volume}", "--port", str(self.port), "--source", part.source,
            "--directory", prefix + part.target, "--connections", "1", "--outstanding", "32",
        ] + options
        status, output, error = self.run.call("godwit-tree", arguments)
        with self.lock:
            with open(self.run.path("tree.log"), "a") as log:
                log.write(f"godwit-tree {' '.join(arguments)}\n{output}{error}status {status}\n")
            for name, value in re.findall(r"(\w+)=(\d+)(?![\d.])", output):
                self.sums[name] = self.sums.get(name, 0) + int(value)
            if status != 0:
                verb = "compare" if "--verify" in options else "copy"
                last = (error.strip() or output.strip() or f"status {status}").splitlines()[-1]
                self.failures.append(f"godwit-tree did not {verb} {part.source} with volume {volume}: {last}")
