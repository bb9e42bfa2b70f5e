"""python3 -m moeopt_routing"""

import sys

from .cli import main

sys.exit(main())
