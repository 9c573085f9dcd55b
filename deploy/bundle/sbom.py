"""What a bundle is made of, for tools that look up known holes and licences: CycloneDX, by its authors' library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL


@dataclass(frozen=True, slots=True)
class Wheel:
    name: str
    version: str
    licence: str | None
    """As it declares it: an SPDX expression, or words."""
    sha256: str


def sbom(wheels: Sequence[Wheel], epoch_s: int) -> str:
    """The same wheels give the same text: neither the clock nor chance has a part in it."""
    components = [_component(wheel) for wheel in wheels]
    version = next(wheel.version for wheel in wheels if wheel.name == "homespun")
    bundle = Component(name="homespun-bundle", version=version, type=ComponentType.APPLICATION, bom_ref="bundle")
    made = BomMetaData(component=bundle, timestamp=datetime.fromtimestamp(epoch_s, UTC))
    digests = "".join(sorted(wheel.sha256 for wheel in wheels))
    bom = Bom(components=components, metadata=made, serial_number=uuid5(NAMESPACE_URL, digests))
    bom.register_dependency(bundle, components)
    return JsonV1Dot6(bom).output_as_string(indent=1) + "\n"


def _component(wheel: Wheel) -> Component:
    purl = PackageURL("pypi", None, wheel.name, wheel.version)
    return Component(
        name=wheel.name,
        version=wheel.version,
        purl=purl,
        bom_ref=purl.to_string(),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=wheel.sha256)],
        licenses=[LicenseFactory().make_from_string(wheel.licence)] if wheel.licence else [],
    )
