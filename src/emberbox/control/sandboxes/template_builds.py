"""Builds of templates: asked for, begun with a recipe, and each of them a version of an image."""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from emberbox.background import Background, in_thread
from emberbox.control.images.commands import CreateImage, ImageConfiguration, UpdateImage
from emberbox.control.images.service import ImageService
from emberbox.control.images.versions import ImageVersionService
from emberbox.control.sandboxes.names import check_name, check_tag
from emberbox.control.sandboxes.recipes import BASE_STEP, Dockerfile, StepError, write_dockerfile
from emberbox.control.sandboxes.standard_templates import BASE_IMAGES, STANDARD_RECIPES
from emberbox.control.sandboxes.templates import TemplateFinder
from emberbox.control.sandboxes.uploads import Uploads
from emberbox.model.caller import Caller
from emberbox.model.errors import ConflictError, EmberboxError, NotFoundError, ServiceError, ValidationError
from emberbox.model.images import MANAGED_IMAGES, ImageName
from emberbox.model.records import Image
from emberbox.model.sizes import SIZES
from emberbox.model.templates import DEFAULT_TAG, Recipe, Step, TemplateBuild, TemplateName, split_name
from emberbox.store.templates import TemplateStore

log = logging.getLogger(__name__)

BUILD_ROLE: Final = "emberbox-build"
FROM_NOTHING: Final = "fromImage or fromTemplate must say what the template is made of"
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class RequestTemplate:
    """Asks for a build.

    Args:
        name: of the template, perhaps with a tag.
        tags: further ones.
        memory_mib: what sandboxes have at least.
        cpu_count: processors that they have at least.
        free_disk_mib: room on their disk at least.
    """

    name: str
    tags: tuple[str, ...] = ()
    memory_mib: int = 0
    cpu_count: int = 0
    free_disk_mib: int = 0


@dataclass(frozen=True, slots=True)
class BeginTemplate:
    """Says how a build is made.

    Args:
        image: the container image under it; empty where it is another template.
        template: the template under it.
        steps: what is done to that.
        start: see `Recipe`; empty takes the other template's, with its `ready`.
        ready: see there.
    """

    image: str
    template: str
    steps: tuple[Step, ...]
    start: str = ""
    ready: str = ""


class TemplateBuilds:
    """Makes templates.

    Args:
        store: the rows.
        finder: finds templates.
        images: makes images.
        versions: makes further versions of them.
        uploads: the files of builds.
    """

    def __init__(
        self, store: TemplateStore, finder: TemplateFinder, images: ImageService, versions: ImageVersionService,
        uploads: Uploads,
    ) -> None:  # fmt: skip
        self._store = store
        self._finder = finder
        self._images = images
        self._versions = versions
        self._uploads = uploads
        self._background = Background()
        self._under_way: set[str] = set()

    async def close(self) -> None:
        """Stop what has no version yet."""
        await self._background.close()

    def is_under_way(self, build: TemplateBuild) -> bool:
        """Say whether a build that has no version yet is being begun."""
        return build.id in self._under_way

    def request(self, caller: Caller, asked: RequestTemplate) -> TemplateBuild:
        """Store that a build is to be.

        Raises:
            ValidationError: of the name, the tags or the size.
        """
        name, tag = split_name(asked.name)
        check_name(name)
        tags = tuple(dict.fromkeys([*([tag] if tag else []), *asked.tags])) or (DEFAULT_TAG,)
        for one in tags:
            check_tag(one)
        if any(found.is_snapshot for found in self._store.list_names(caller.account_id, name)):
            raise ValidationError(f"name: {name} is a snapshot's; give the template another name")
        memory_mib = choose_memory(asked)
        build = TemplateBuild(
            str(uuid.uuid4()), caller.account_id, self._choose_id(caller, name), name, tags, memory_mib,
            datetime.now(UTC),
        )  # fmt: skip
        self._store.add_build(build)
        return build

    def _choose_id(self, caller: Caller, name: str) -> str:
        """Return the id of the image: of the one that is there, or the one that an earlier request was promised."""
        image = self._finder.find_image(caller.account_id, name)
        if image is not None:
            return image.id
        earlier = self._store.find_newest_of(caller.account_id, name)
        is_free = earlier is not None and earlier.version is None
        return earlier.image_id if earlier is not None and is_free else str(uuid.uuid4())

    def find(self, caller: Caller, template_id: str, build_id: str) -> TemplateBuild:
        """Return a build of the caller's account.

        Raises:
            NotFoundError: there is none.
        """
        build = self._store.find_build(build_id)
        if build is None or build.account_id != caller.account_id or template_id not in (build.image_id, build.name):
            raise NotFoundError(f"the build {build_id} of the template {template_id} is not there")
        return build

    async def find_upload(self, caller: Caller, files: str, *, with_url: bool) -> tuple[bool, str]:
        """Say whether files are there already, and where they may be uploaded.

        Raises:
            ServiceError: the caller may not do that.
            HostError: S3 does not answer.
        """
        is_there = await in_thread(self._uploads.find, caller, files)
        return is_there, await in_thread(self._uploads.make_url, caller, files) if with_url else ""

    def begin(self, caller: Caller, build: TemplateBuild, asked: BeginTemplate) -> None:
        """Begin a build in the background.

        Raises:
            ConflictError: it has begun already.
            ServiceError: what it is made of is not there.
        """
        recipe = self._resolve(caller, build, asked)
        if not self._store.begin_build(build.id, recipe):
            raise ConflictError(f"the build {build.id} has begun already; ask for another one")
        self._under_way.add(build.id)
        self._background.start(self._run(caller, replace(build, recipe=recipe), recipe), f"the template {build.name}")

    # --- what it is made of

    def _resolve(self, caller: Caller, build: TemplateBuild, asked: BeginTemplate) -> Recipe:
        if asked.template:
            under = self._find_recipe(caller, build, asked.template)
        elif asked.image in BASE_IMAGES:
            under = STANDARD_RECIPES["base"]
        elif asked.image:
            under = Recipe(asked.image)
        else:
            raise ValidationError(FROM_NOTHING)
        own = (asked.start, asked.ready) if asked.start or asked.ready else (under.start, under.ready)
        return Recipe(under.base, (*under.steps, *asked.steps), *own, inherited=len(under.steps))

    def _find_recipe(self, caller: Caller, build: TemplateBuild, named: str) -> Recipe:
        standard = STANDARD_RECIPES.get(split_name(named)[0])
        if standard is not None and split_name(named)[0] == build.name:
            return standard
        try:
            found = self._finder.find(caller, named)
        except NotFoundError:
            if standard is not None:
                return standard
            raise
        made = self._store.find_build_of(found.image.id, found.version or "")
        if made is None or made.recipe is None:
            raise ValidationError(
                f"fromTemplate: {named} was not built by E2B's template builder, so nothing can be built on it; "
                "begin with the container image that it was made of"
            )
        return made.recipe

    # --- the build

    async def _run(self, caller: Caller, build: TemplateBuild, recipe: Recipe) -> None:
        try:
            dockerfile = write_dockerfile(recipe)
            uri = await in_thread(self._uploads.make_artifact, caller, build.id, dockerfile, recipe)
            image, version = await self._make_version(caller, build, uri)
            now = datetime.now(UTC)
            self._store.set_version(build.id, image.id, version)
            for tag in build.tags:
                self._store.put_name(TemplateName(build.account_id, build.name, tag, image.id, version, build.id, now))
        except Exception as error:
            self._fail(build, error)
        finally:
            self._under_way.discard(build.id)

    async def _make_version(self, caller: Caller, build: TemplateBuild, uri: str) -> tuple[Image, str]:
        configuration = _configure(caller, build, uri)
        if self._finder.find_image(caller.account_id, build.name) is None:
            made = await self._images.create(
                caller, CreateImage(build.name, configuration, {}, image_id=build.image_id)
            )
        else:
            name = ImageName(build.name, named=build.name)
            made = await self._versions.update(caller, UpdateImage(name, configuration))
        return made.image, made.version.version

    def _fail(self, build: TemplateBuild, error: Exception) -> None:
        step = error.step if isinstance(error, StepError) else BASE_STEP
        if isinstance(error, EmberboxError):
            reason = error.message if isinstance(error, ServiceError) else str(error)
            log.info("the template %s cannot be built: %s", build.name, error)
        else:
            reason = "an internal error occurred; the server's log has it"
            log.error("the template %s cannot be built", build.name, exc_info=error)
        self._store.fail_build(build.id, reason, step)


def _configure(caller: Caller, build: TemplateBuild, uri: str) -> ImageConfiguration:
    base = MANAGED_IMAGES[-1]
    return ImageConfiguration(
        base=ImageName(base, named=base),
        build_role=f"arn:aws:iam::{caller.account_id}:role/{BUILD_ROLE}",
        artifact_uri=uri,
        memory_mib=build.memory_mib,
    )


def dockerfile_of(build: TemplateBuild) -> Dockerfile | None:
    """Return the Dockerfile that a build was begun with; None where it has none."""
    try:
        return None if build.recipe is None else write_dockerfile(build.recipe)
    except StepError:
        return None


def choose_memory(asked: RequestTemplate) -> int:
    """Return the smallest size's memory that has all that is asked for.

    Raises:
        ValidationError: none has.
    """
    for memory, size in SIZES.items():
        has_disk = asked.free_disk_mib <= size.disk_bytes // _MIB
        if asked.memory_mib <= memory and asked.cpu_count <= size.vcpu_count and has_disk:
            return memory
    largest = max(SIZES)
    raise ValidationError(
        f"the largest sandbox has {largest} MiB of memory, {SIZES[largest].vcpu_count} processors and "
        f"{SIZES[largest].disk_bytes // _MIB} MiB of disk; ask for less"
    )
