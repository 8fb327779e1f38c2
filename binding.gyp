# The sources of CMakeLists.txt, built with node-gyp. LibTorch is found as everywhere else (src/libtorch), so the TypeScript is
# compiled first: npm run build:ts && npx node-gyp rebuild
{
  'variables': {
    'libtorch%': '<!(node -p "require(\'./dist/libtorch\').searchLibTorch({ needsHeaders: true }).root")',
    'node_api_headers': '<!(node -p "require(\'node-api-headers\').include_dir")',
    'node_addon_api': '<!(node -p "require(\'node-addon-api\').include_dir")',
  },
  'target_defaults': {
    # A worker that is being terminated can no longer take an exception; the error is dropped then, the process goes on.
    'defines': ['NAPI_VERSION=8', 'NODE_ADDON_API_CPP_EXCEPTIONS', 'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS'],
    'include_dirs': ['<(node_api_headers)', '<(node_addon_api)'],
    'cflags!': ['-fno-exceptions'],
    'cflags_cc!': ['-fno-exceptions', '-fno-rtti', '-std=gnu++17'],
    'cflags_cc': ['-std=c++20', '-fvisibility=hidden', '-fopenmp-simd', '-fno-math-errno', '-fno-trapping-math'],
    'xcode_settings': {
      'CLANG_CXX_LANGUAGE_STANDARD': 'c++20',
      'CLANG_CXX_LIBRARY': 'libc++',
      'GCC_ENABLE_CPP_EXCEPTIONS': 'YES',
      'GCC_ENABLE_CPP_RTTI': 'YES',
      'GCC_SYMBOLS_PRIVATE_EXTERN': 'YES',
      'MACOSX_DEPLOYMENT_TARGET': '11.0',
    },
    'msvs_settings': {
      'VCCLCompilerTool': { 'ExceptionHandling': 1, 'RuntimeTypeInfo': 'true', 'AdditionalOptions': ['/std:c++20'] },
    },
  },
  'targets': [
    {
      'target_name': 'kontrast',
      # Every source in native/ but the loader's, as in CMakeLists.txt.
      'sources': [
        '<!@(node -p "require(\'fs\').readdirSync(\'native\', { recursive: true }).filter((name) => name.endsWith(\'.cc\') && name !== \'loader.cc\').map((name) => \'native/\' + name).join(\' \')")',
      ],
      # The addon carries the text of its CUDA kernels, which are compiled where they run.
      'actions': [
        {
          'action_name': 'embed_kernels',
          'inputs': ['native/contrast/embed.mjs', 'native/contrast/kernels.cu', 'native/contrast/kernels.h'],
          'outputs': ['<(SHARED_INTERMEDIATE_DIR)/kernels_text.h'],
          'action': ['node', 'native/contrast/embed.mjs', '<@(_outputs)'],
        },
      ],
      'include_dirs': ['<(SHARED_INTERMEDIATE_DIR)'],
      # As system folders, so that warnings in LibTorch's headers stay quiet.
      'cflags_cc': ['-isystem', '<(libtorch)/include', '-isystem', '<(libtorch)/include/torch/csrc/api/include'],
      'conditions': [
        [
          "OS=='win'",
          {
            'include_dirs': ['<(libtorch)/include', '<(libtorch)/include/torch/csrc/api/include'],
            'libraries': ['<(libtorch)/lib/torch_cpu.lib', '<(libtorch)/lib/c10.lib'],
          },
          { 'libraries': ['-L<(libtorch)/lib', '-ltorch_cpu', '-lc10'] },
        ],
        # LibTorch keeps functions of ours, and Node unloads an addon when the only worker that loaded it ends.
        ["OS=='linux'", { 'ldflags': ['-Wl,-z,nodelete'] }],
        # For the symbols of LibTorch's CUDA part and of its driver, which are looked up at run time.
        ["OS=='linux'", { 'libraries': ['-ldl'] }],
        [
          "OS=='mac'",
          {
            'xcode_settings': {
              'OTHER_CFLAGS': ['-isystem', '<(libtorch)/include', '-isystem', '<(libtorch)/include/torch/csrc/api/include'],
            },
          },
        ],
      ],
    },
    {
      'target_name': 'kontrast_loader',
      'sources': ['native/loader.cc'],
      'conditions': [["OS=='linux'", { 'libraries': ['-ldl'] }]],
    },
  ],
}
