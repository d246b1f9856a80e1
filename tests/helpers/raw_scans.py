"""Raw data of a scanner, written by the format's own library."""

import numpy as np


def with_noise(mrd, path, lines, mixing, trajectory=None, repeats=None):
    """An ISMRMRD file of one image ``(readouts, coils, samples)`` and a scan of noise, correlated by ``mixing``.

    The readout is twice as long as the scanner's field of view needs.

    :param repeats: after so many readouts the first line is taken again.
    """
    rng, coils = np.random.default_rng(3), len(mixing)
    noise = mixing @ (rng.standard_normal((coils, 5000)) + 1j * rng.standard_normal((coils, 5000))) / np.sqrt(2)
    y, x = repeats or lines.shape[0], lines.shape[2]
    space = "<{0}Space><matrixSize><x>{1}</x><y>{2}</y><z>1</z></matrixSize><fieldOfView_mm><x>{3}</x><y>200</y>" \
        "<z>5</z></fieldOfView_mm></{0}Space>"  # fmt: skip
    spaces = space.format("encoded", x, y, 400) + space.format("recon", x // 2, y, 200)
    kind = "cartesian" if trajectory is None else "radial"
    header = f'<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>{spaces}<trajectory>{kind}</trajectory>' \
        "</encoding></ismrmrdHeader>"  # fmt: skip
    with mrd.Dataset(str(path), "dataset", create_if_needed=True) as file:
        file.write_xml_header(header.encode())
        scan = mrd.Acquisition.from_array(noise.astype(np.complex64))
        scan.setFlag(mrd.ACQ_IS_NOISE_MEASUREMENT)
        file.append_acquisition(scan)
        for i, line in enumerate(lines.astype(np.complex64)):
            positions = () if trajectory is None else (np.ascontiguousarray(trajectory[i], np.float32),)
            scan = mrd.Acquisition.from_array(np.ascontiguousarray(line), *positions, center_sample=x // 2)
            scan.idx.kspace_encode_step_1 = i % y
            file.append_acquisition(scan)
