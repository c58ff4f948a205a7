# SPDX-License-Identifier: Apache-2.0
"""What runs from a checkout and is not installed: demo and lab, benchmarks, the maker of generated pages."""
