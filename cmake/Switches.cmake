# Switches for tests of the whole program: faults on purpose, optimisations left out.
if(MOEOPT_FAULTS)
  add_compile_definitions(MOEOPT_FAULTS)
endif()
if(MOEOPT_BYPASS)
  add_compile_definitions(MOEOPT_BYPASS)
endif()
