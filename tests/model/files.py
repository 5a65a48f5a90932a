"""The file system of the dom0 in memory: texts, images, and who holds an image open."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from state.files import FileStat

_DEVICE = 7


@dataclass(slots=True)
class FileSystem:
    """Implements `state.files.Files` and `reconciler.execute.Disk`.

    `loops` and `create_processes` are asked of the toolstack: the loop device of each image in use, and the
    configuration that each living `xl create` watches over. `made_by_others` are names that the kernel and libxl put
    into folders. `secrets` puts passwords into configuration files.
    """

    loops: Callable[[], Mapping[str, str]] = dict
    create_processes: Callable[[], tuple[str, ...]] = tuple
    made_by_others: Mapping[str, Callable[[], Iterable[str]]] = field(default_factory=dict)
    secrets: Callable[[str], str] = str
    texts: dict[str, str] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    images: dict[str, FileStat] = field(default_factory=dict)
    folders: set[str] = field(default_factory=lambda: {"/srv/xen/images"})  # those for images
    _inode: int = 100

    # ---- state.files.Files ----

    def read_text(self, path: str) -> str | None:
        return self.texts.get(path)

    def stat(self, path: str) -> FileStat | None:
        return FileStat("other", 1, 2, 4096) if path in self.folders else self.images.get(path)

    def names(self, folder: str) -> tuple[str, ...]:
        prefix = f"{folder}/"
        found = {path[len(prefix) :].split("/")[0] for path in self.texts if path.startswith(prefix)}
        return tuple(sorted(found.union(self.made_by_others.get(folder, tuple)())))

    def holders(self, paths: Iterable[str]) -> Mapping[str, str]:
        held = self.loops()
        return {path: held[path] for path in paths if path in held}

    def monitors(self) -> tuple[str, ...]:
        return self.create_processes()

    # ---- reconciler.execute.Disk ----

    def write(self, path: str, text: str, mode: int) -> None:
        self.texts[path], self.modes[path] = self.secrets(text), mode

    def remove(self, path: str) -> None:
        self.texts.pop(path, None)
        self.modes.pop(path, None)

    def create_image(
        self, path: str, size_bytes: int, *, sparse: bool, before_linking: Callable[[str], None]
    ) -> str:
        del sparse  # says how the blocks are taken, which nobody reads back
        folder = path.rpartition("/")[0]
        if folder not in self.folders:
            raise FileNotFoundError(errno.ENOENT, f"there is no folder {folder}")
        image = self._new(size_bytes)
        before_linking(image.identity)
        if path in self.images:
            raise FileExistsError(errno.EEXIST, "File exists", path)
        self.images[path] = image
        return image.identity

    # ---- what people do ----

    def make_image(self, path: str, size_bytes: int) -> None:
        """As `truncate -s` does: never smaller, never a new one in the place of an old one."""
        if path not in self.images:
            self.images[path] = self._new(size_bytes)

    def exists(self, path: str) -> bool:
        return path in self.texts or path in self.images

    def _new(self, size_bytes: int) -> FileStat:
        self._inode += 1
        return FileStat("file", _DEVICE, self._inode, size_bytes)
