"""The laws of components, for the tests of plugins: `from genkit.testing import laws`."""

GENKIT_API = 1
