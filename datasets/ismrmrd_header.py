"""The scanner's protocol as ISMRMRD writes it in XML; fastMRI's files carry it too.

Inati et al., ISMRM Raw data format, Magn. Reson. Med. 77:411 (2017).
"""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

LONGEST = 2**20
NAMESPACE = "{http://www.ismrm.org/ISMRMRD}"
#: Fact to element.
PROTOCOL = {
    "trajectory": "encoding/trajectory",
    "field strength (T)": "acquisitionSystemInformation/systemFieldStrength_T",
    "coils": "acquisitionSystemInformation/receiverChannels",
    "scanner": "acquisitionSystemInformation/systemModel",
    "protocol": "measurementInformation/protocolName",
    "TR (ms)": "sequenceParameters/TR",
    "TE (ms)": "sequenceParameters/TE",
    "TI (ms)": "sequenceParameters/TI",
    "flip angle (degrees)": "sequenceParameters/flipAngle_deg",
}


def parse(xml: bytes | str) -> ElementTree.Element:
    """The document's root.

    :raises ValueError: if it declares entities or is longer than :data:`LONGEST`.
    """
    content = xml.encode() if isinstance(xml, str) else bytes(xml)
    if len(content) > LONGEST or b"<!" in content.replace(b"<!--", b"").replace(b"<![CDATA[", b""):
        raise ValueError(f"a header of {len(content)} bytes or with declarations, expected plain XML")
    return ElementTree.fromstring(content)


def find(root: ElementTree.Element, path: str) -> str | None:
    """Text of the first element at ``a/b/c``, None where there is none."""
    return root.findtext("/".join(NAMESPACE + step for step in path.split("/")))


def triple(root: ElementTree.Element, path: str) -> tuple[float, float, float]:
    """The numbers x, y, z below an element; zeros where there are none."""
    x, y, z = (float(find(root, f"{path}/{axis}") or 0) for axis in "xyz")
    return x, y, z


def protocol(xml: bytes | str) -> dict[str, Any]:
    """What a reader of the images wants to know of how they were taken."""
    root = parse(xml)
    facts: dict[str, Any] = {name: find(root, path) for name, path in PROTOCOL.items()}
    for space in ("encoded", "recon"):
        place = f"encoding/{space}Space"
        facts[f"{space} matrix"] = [int(n) for n in triple(root, f"{place}/matrixSize")]
        facts[f"{space} field of view (m)"] = [1e-3 * mm for mm in triple(root, f"{place}/fieldOfView_mm")]
    return {name: value for name, value in facts.items() if value is not None}
