"""python -m calibration.confidence"""

import sys

from calibration.confidence.fit import main

if __name__ == "__main__":
    sys.exit(main())
